"""Comparing runs on disk: means with intervals, paired differences, tables, pictures and a page. No TensorFlow.

Begin with table.py: reading.py reads runs, variants.py sorts them into variants, and table.py compares these (records
in comparison.py). columns.py, notes.py and formats.py write the table; gallery.py and page.py show it with pictures.
listing.py and differing.py serve the commands that list runs and compare two of them.
"""
