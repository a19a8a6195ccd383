"""Networks of meta-learning."""
