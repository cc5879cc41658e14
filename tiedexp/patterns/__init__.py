"""Tying patterns: which cells of a kernel share one weight.

Begin with grid.py, which is the class `Pattern`; presets.py has the named patterns. Both need only NumPy.
"""
