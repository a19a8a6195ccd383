"""Tasks in sequence, jointly, in a bank and online."""
