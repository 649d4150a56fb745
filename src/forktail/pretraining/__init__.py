"""Initial weights for a backbone: supervised on other pictures, or masked auto-encoding without labels."""
