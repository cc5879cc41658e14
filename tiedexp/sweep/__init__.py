"""Sweeps: many experiments and seeds from one file, and the executors that run them.

Begin with `sweep_spec.py`, the file; `variants.py` makes experiments of it and `planning.py` lays out the runs.
`local.py` and `ray.py` execute them through `worker.py`; `ledger.py` records how they end.
"""
