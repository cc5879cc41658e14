"""The slow imports, done once by the process that all runs of a sweep are forked from."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
SWEEP_PID = os.environ.get("TIEDEXP_SWEEP_PID")  # see local.py

# If the sweep's process ends during these imports, this process should end too, rather than seconds later.
if SWEEP_PID and hasattr(ctypes.CDLL(None), "prctl"):  # Linux
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != SWEEP_PID:  # it has ended already
        os._exit(1)

import tiedexp.experiment.run  # noqa: E402
import tiedexp.experiment.step_time  # noqa: E402, F401
