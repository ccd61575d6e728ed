"""Keeps freed memory in the process, since a training step on a CPU otherwise waits for page faults."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt


def keep_freed_memory() -> bool:
    """Tells the C library to hold on to freed blocks instead of giving them back to the system.

    Otherwise every tensor of some megabytes is new memory, which the kernel fills with zeros page by page at the first
    access: a training step of `implicit-volume` then takes 1.45 times as long (benchmarks/fit.py memory). The setting
    holds until the process ends, and the process keeps the memory of its peak.

    Returns:
        Whether it took effect, which needs glibc on Linux.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    done = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(d == 1 for d in done)
