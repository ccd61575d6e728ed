"""What a measurement cost, and how much of the machine others took meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSY = 0.05
"""Share of the machine's CPUs; what is measured while others take more counts for nothing."""


@dataclass(frozen=True)
class Spent:
    """Attributes:
    wall: Seconds.
    cpu: Seconds on all CPUs, of this process and of all that it started, also where they outlive their parents.
    others: The share of the machine's CPUs that other processes took.
    """

    wall: float
    cpu: float
    others: float

    @property
    def quiet(self) -> bool:
        """Whether others took little."""
        return self.others <= BUSY


def spent(act: Callable[[], Any]) -> tuple[Any, Spent]:
    """Runs something; returns its result and what it cost. All processes of this one's must have ended before."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process
    began, before, machine = time.monotonic(), _own(), _machine()
    result = act()
    wall = time.monotonic() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    cpu, all_of_it = _own() - before, _machine() - machine
    return result, Spent(wall, cpu, max(0.0, all_of_it - cpu) / (time.monotonic() - began) / (os.cpu_count() or 1))


def _own() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _machine() -> float:
    """Seconds that the CPUs were busy, with what the host of a virtual machine took from them."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
