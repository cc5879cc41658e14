"""Pictures: patterns, kernels, confusion matrices, and the time that methods take. No TensorFlow.

Begin with figures.py, which holds what pictures share: colours, style, and how they become PNG or SVG. Each other
module draws one kind of picture, and returns PNG bytes.
"""
