"""`--on local`: processes of this machine, one for each GPU, or for each core where there is none."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from typing import Any

import torch

from ..process import end_with_parent, server
from ..worker import Job, work
from . import KILLED


@dataclass(frozen=True)
class Options:
    """It has none."""


class Engine:
    """Forks workers from a server that has done the imports."""

    Options = Options

    def __init__(self, job: Job, options: Options, workers: int | None) -> None:
        self.job, self.gpus = job, torch.cuda.device_count()
        self.workers = workers or self.gpus or max(1, len(os.sched_getaffinity(0)) // job.threads)
        self._numbers = itertools.count()
        self._context = server()
        self._workers: list[tuple[Any, Any]] = []

    def start(self, count: int) -> None:
        """Starts workers; those on GPUs take turns."""
        for _ in range(count):
            ours, theirs = self._context.Pipe(duplex=False)
            gpu = next(self._numbers) % self.gpus if self.gpus else None
            process = self._context.Process(target=_work, args=(self.job, gpu, theirs))
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def alive(self) -> int:
        """How many workers run."""
        return sum(process.is_alive() for process, _ in self._workers)

    def ended(self) -> list[str | None]:
        """What they said."""
        over = [worker for worker in self._workers if not worker[0].is_alive()]
        self._workers = [worker for worker in self._workers if worker not in over]
        return [_said(process, pipe) for process, pipe in over]

    def stop(self) -> None:
        """Sends SIGTERM."""
        for process, _ in self._workers:
            process.terminate()

    def close(self) -> None:
        """Waits for the workers; stops those that run."""
        self.stop()
        for process, _ in self._workers:
            process.join()


def _said(process: Any, pipe: Any) -> str | None:
    process.join()
    try:
        return pipe.recv()
    except EOFError:
        return KILLED


def _work(job: Job, gpu: int | None, sender: Any) -> None:
    os.setpgrp()  # Ctrl-C is the driver's, which then asks its workers to stop
    end_with_parent()
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    sys.stdout = sys.stderr = os.fdopen(os.dup(1), "w", buffering=1)
    sender.send(work(job))
