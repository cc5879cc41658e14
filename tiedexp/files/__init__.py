"""Files: atomic writing (atomic.py), and bounded reading of files that somebody else may have written (bounded.py)."""
