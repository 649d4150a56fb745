"""Several methods on the same data at the same cost: who is best, and is the difference more than chance?"""
