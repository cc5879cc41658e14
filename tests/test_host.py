"""The cores and memory that this process may use, also in containers and in jobs of a cluster."""

from __future__ import annotations

import os
import resource

import pytest

from tiedexp import host
from tiedexp.host import count_cores, find_available_memory, find_memory

GIB = 2**30
NO_LIMIT = "9223372036854771712"  # what version 1 writes if there is no limit


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 64 cores; `system(groups, files)` makes /proc/self/cgroup and /sys/fs/cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 256 * GIB // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr(host, "_CGROUPS", tmp_path / "sys")
    monkeypatch.setattr(host, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(host, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(host, "_find_quota", host._find_quota.__wrapped__)

    def make(groups, files):
        (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in groups))
        for name, text in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return make


V1 = ["12:pids:/job/7", "5:memory:/job/7", "4:cpu,cpuacct:/job/7", "1:name=systemd:/job/7"]


@pytest.mark.parametrize(
    ("groups", "files", "cores", "memory"),
    [
        ([], {}, 64, 256 * GIB),
        (["nonsense", "0::/"], {"memory.max": GIB}, 64, 256 * GIB),
        (["0::/"], {"cpu.max": "max 100000", "memory.max": "max"}, 64, 256 * GIB),
        (["0::/"], {"cpu.max": "200000 100000", "memory.max": 3 * GIB}, 2, 3 * GIB),
        (["0::/"], {"cpu.max": "150000 100000"}, 2, 256 * GIB),
        (["0::/"], {"cpu.max": "10000 100000"}, 1, 256 * GIB),
        (["0::/"], {"cpu.max": "9000000 100000", "memory.max": 999 * GIB}, 64, 256 * GIB),
        (["0::/"], {"cpu.max": "nothing", "memory.max": ""}, 64, 256 * GIB),
        # The smallest limit of the group and its parents counts; that of a sibling does not.
        (["0::/a/b c"], {"a/b c/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3, 256 * GIB),
        (["0::/a/b"], {"a/b/memory.max": 5 * GIB, "a/memory.max": 4 * GIB, "memory.max": "max"}, 64, 4 * GIB),
        (["0::/a/b"], {"a/b/memory.max": 4 * GIB, "a/memory.max": 5 * GIB}, 64, 4 * GIB),
        (["0::/a/b"], {"a/c/memory.max": GIB, "a/c/cpu.max": "100000 100000"}, 64, 256 * GIB),
        # Containers: the path is that on the host, or leads out of what the container sees.
        (["0::/docker/1234"], {"cpu.max": "400000 100000", "memory.max": 2 * GIB}, 4, 2 * GIB),
        (["0::/../../job"], {"job/memory.max": 2 * GIB}, 64, 2 * GIB),
        (
            V1,
            {
                "cpu,cpuacct/job/7/cpu.cfs_quota_us": 250000,
                "cpu,cpuacct/job/7/cpu.cfs_period_us": 50000,
                "cpu,cpuacct/cpu.cfs_quota_us": -1,
                "cpu,cpuacct/cpu.cfs_period_us": 100000,
                "memory/job/7/memory.limit_in_bytes": NO_LIMIT,
                "memory/job/memory.limit_in_bytes": 6 * GIB,
                "memory/memory.limit_in_bytes": NO_LIMIT,
            },
            5,
            6 * GIB,
        ),
        # The controller is mounted under its own name, and the container's limits are at the root.
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": 100000,
                "cpu/cpu.cfs_period_us": 100000,
                "memory/memory.limit_in_bytes": 7 * GIB,
            },
            1,
            7 * GIB,
        ),
        ([*V1, "0::/x"], {"unified/x/memory.max": GIB, "memory/memory.limit_in_bytes": 2 * GIB}, 64, GIB),
    ],
)
def test_limits_of_control_groups(groups, files, cores, memory, system):
    system(groups, files)
    assert count_cores() == cores
    assert find_memory() == memory
    assert isinstance(find_memory(), int)


def test_the_cores_that_the_process_is_bound_to(system, monkeypatch):
    system(["0::/"], {"cpu.max": "800000 100000"})
    assert count_cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
    assert count_cores() == 2


def test_without_control_groups(system):
    assert count_cores() == 64
    assert find_memory() == 256 * GIB


def test_unknown_memory_and_the_limit_of_a_process(system, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: int(""))
    assert find_memory() is None
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GIB, GIB) if kind == resource.RLIMIT_AS else None)
    assert find_memory() == GIB
    assert find_available_memory() is None  # each process has a limit of its own
    system(["0::/"], {"memory.max": GIB // 2})
    assert find_memory() == GIB // 2


def test_available_memory(system):
    folder = system(["0::/"], {"memory.max": 3 * GIB})
    assert find_available_memory() == 3 * GIB
    (folder / "meminfo").write_text("MemTotal: 9000000 kB\nMemFree: 1000 kB\nMemAvailable: 2000000 kB\n")
    assert find_available_memory() == 2_000_000 * 1024
    (folder / "meminfo").write_text("MemAvailable: 200000000 kB\n")
    assert find_available_memory() == 3 * GIB


def test_this_machine():
    assert 1 <= count_cores() <= (os.cpu_count() or 1)
    assert find_available_memory() is None or find_available_memory() > 2**24
