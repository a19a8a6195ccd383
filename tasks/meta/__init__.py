"""Meta-learning experiments: pools of classes, what an outer step sees, the arms, and the sequential test."""
