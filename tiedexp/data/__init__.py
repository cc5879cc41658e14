"""Datasets: from files on disk to uint8 arrays in memory, and from those to training batches.

Begin with `sources.py`, which lists the kinds of datasets and loads them by name; `kind.py` says what a kind must do.
`pipeline.py` makes batches; `archives.py` prepares TFDS datasets and is the only module that uses the network.
"""
