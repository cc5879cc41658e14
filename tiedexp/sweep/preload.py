"""Imported once, by the process that all runs of a sweep are forked from: what takes seconds to import."""

import tiedexp.experiment.run
import tiedexp.experiment.timing  # noqa: F401
