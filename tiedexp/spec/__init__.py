"""Specs: what an experiment is, written down. YAML in, one validated and immutable object out."""
