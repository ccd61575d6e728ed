"""What all fused kernels share: compiling them before a run, and spreading the work over threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
import warp as wp


def compile_kernels(kernels: Iterable[Any], device: torch.device) -> None:
    """Compiles kernels for a device, or loads them from an earlier run's cache."""
    wp.config.log_level = wp.LOG_WARNING
    with _without_driver_warning() if device.type == "cpu" else nullcontext():
        wp.init()
    threads_of_a_block = 1 if device.type == "cpu" else 256  # those of a launch
    for kernel in kernels:
        kernel.module.load(wp.device_from_torch(device), threads_of_a_block)


@contextmanager
def _without_driver_warning() -> Iterator[None]:
    """Keeps Warp from writing to stderr, past Python, that there is no CUDA driver."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "fused")


def part_count(device: torch.device) -> int:
    """Buffers of a gradient: one per thread on a CPU, so that sums have one order; on CUDA threads add atomically."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def launch(kernel: Any, tasks: int, device: torch.device, inputs: Callable[[int, int], list[Any]]) -> None:
    """Runs a kernel with `inputs(first task, part)`: at once on CUDA, in one thread per part on a CPU."""
    if not tasks:
        return
    if device.type != "cpu":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(kernel, tasks, inputs(0, 0), device=wp.device_from_torch(device), stream=stream)
        return
    threads = min(part_count(device), tasks)
    size = -(-tasks // threads)
    starts = range(0, tasks, size)
    launches: list[Any] = [
        wp.launch(kernel, min(size, tasks - s), inputs(s, p), device="cpu", record_cmd=True)
        for p, s in enumerate(starts)
    ]
    others = [_pool(threads).submit(command.launch) for command in launches[1:]]
    launches[0].launch()
    for other in others:
        other.result()
