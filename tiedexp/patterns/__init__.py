"""Tying patterns: which cells of a kernel share one weight. NumPy only."""
