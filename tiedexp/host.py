"""The processor, and how many of its cores and how much memory this process may use.

psutil does not replace this: it knows nothing of control groups, so in a container it reports the whole machine.
"""

from __future__ import annotations

import math
import os
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")


def find_processor() -> str:
    """The processor's name; the architecture if the system does not tell the name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def count_cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer if a control group has a quota of CPU time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _find_quota() or cores)


def find_memory() -> int | None:
    """Bytes of memory that this process may use; None if unknown.

    It is the smallest of the machine's memory, the limits of its control groups, and its own limit (RLIMIT_AS).
    """
    limits = [resource.getrlimit(resource.RLIMIT_AS)[0], _find_shared_memory() or 0]
    return min((limit for limit in limits if limit > 0), default=None)  # -1 is no limit


def find_available_memory() -> int | None:
    """Bytes that all processes together can still use without swapping; None if unknown."""
    memory = _find_shared_memory()
    with suppress(OSError, StopIteration):
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        available = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return available if memory is None else min(available, memory)
    return memory


def _find_shared_memory() -> int | None:
    """Bytes of memory in this machine, or fewer if a control group has a limit."""
    limits = list(_read_limits("memory", _read_memory))
    with suppress(ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return int(min(limits)) if limits else None


@cache
def _find_quota() -> int | None:
    """Cores that this process's control groups may keep busy, rounded up; None without a quota."""
    return min((math.ceil(quota) for quota in _read_limits("cpu", _read_quota)), default=None)


def _read_limits(controller: str, read: Callable[[Path], float]) -> Iterator[float]:
    """The limits of the control groups that this process is in, e.g. in a container or a job of a cluster."""
    for group in _list_groups(controller):
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            limit = read(group)
            if limit > 0:  # -1 is no limit
                yield limit


def _list_groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups and their parents, in versions 1 and 2.

    A container may see its own group as the root, where the group's path on the host does not exist. So some of these
    folders may not exist.
    """
    with suppress(OSError, ValueError):
        for line in _OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                roots = [_CGROUPS, _CGROUPS / "unified"]
            elif controller in controllers.split(","):
                roots = list({_CGROUPS / controllers, _CGROUPS / controller})
            else:
                continue
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for root in roots:
                yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _read_quota(group: Path) -> float:
    """Cores that a control group may keep busy."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
    else:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
    return int(quota) / max(1, int(period))


def _read_memory(group: Path) -> float:
    """Bytes that a control group may take."""
    file = group / "memory.max"
    return int((file if file.exists() else group / "memory.limit_in_bytes").read_text(encoding="ascii"))
