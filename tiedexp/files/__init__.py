"""Files that survive a crash, and files that somebody else may have written.

atomic.py replaces a file as a whole, in_place.py opens one to be written where it is, bounded.py reads one of unknown
origin, and checkpoint_names.py has the names of checkpoint files. Begin with atomic.py.
"""
