"""Keras layers whose kernels are tied by a pattern."""
