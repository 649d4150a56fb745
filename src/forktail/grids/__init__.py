"""Grids of shared depths and task weights, every cell trained and measured: does the criterion predict them?"""
