"""Runs and sweeps on disk: directories, typed records of their JSON files, and event files for TensorBoard.

Begin with directory.py, whose `RunDirectory` reads and writes a run; records.py has the content of its files. lock.py
keeps other processes out, finding.py finds runs, sweeps.py has the directory of a sweep, tensorboard.py the log.
"""
