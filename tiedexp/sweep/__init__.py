"""Sweeps: many experiments and seeds from one file, and who runs them."""
