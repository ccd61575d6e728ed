"""`--on ray`: tasks of a Ray cluster, a local one or one that is there."""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from ...errors import UserError, first_line
from ..worker import Job, work
from . import KILLED

PATIENCE = 30.0
"""Seconds that an address has to answer."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2 begins (RFC 9113, 3.4), which every server of Ray's answers at once: gRPC is HTTP/2.

Ray itself tries for minutes where something listens and is silent.
"""


@dataclass(frozen=True)
class Options:
    """What --with sets.

    Attributes:
        address: host:port of a cluster, ray://host:port through Ray's client, or auto for one that this machine is
            part of; local for a new one on this machine.
        gpus: GPUs of a worker; a part of one lets several share it. -1: 1 where the cluster has any, else 0.
        dashboard: Whether a new cluster has Ray's dashboard, which needs the package ray[default].
        killed: How often Ray starts a task again whose process was killed; the sweep starts others after that.
    """

    address: str = "local"
    gpus: float = -1.0
    dashboard: bool = False
    killed: int = 3


class Engine:
    """Each worker is a task with as many CPUs as a run has threads."""

    Options = Options

    def __init__(self, job: Job, options: Options, workers: int | None) -> None:
        self.job, self.options = job, options
        if options.address not in ("local", "auto"):
            _answers(options.address)
        import ray
        import ray.exceptions

        self._ray, self._errors = ray, ray.exceptions
        cores = max(1, len(os.sched_getaffinity(0)) // job.threads)
        new = {"num_cpus": (workers or cores) * job.threads, "include_dashboard": options.dashboard}
        try:
            ray.init(
                options.address, log_to_driver=False, logging_level=logging.ERROR,
                **(new if options.address == "local" else {}),
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"no Ray cluster can be had at address={options.address}: {first_line(error)}; start one with ray "
                "start --head, or leave the address out"
            ) from error
        total = ray.cluster_resources()
        self._gpus = options.gpus if options.gpus >= 0 else float(total.get("GPU", 0) >= 1)
        share = [total.get("CPU", 1) / job.threads] + ([total.get("GPU", 0) / self._gpus] if self._gpus else [])
        self.workers = workers or max(1, int(min(share)))
        self._task = ray.remote(num_cpus=job.threads, num_gpus=self._gpus, max_retries=options.killed)(work)
        self._tasks: list[Any] = []
        self._stopped = False

    def start(self, count: int) -> None:
        """Submits tasks."""
        self._tasks += [self._task.remote(self.job) for _ in range(count)]

    def alive(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks) - len(self._over())

    def ended(self) -> list[str | None]:
        """What they said."""
        over = self._over()
        self._tasks = [task for task in self._tasks if task not in over]
        return [self._said(task) for task in over]

    def stop(self) -> None:
        """Has Ray interrupt the tasks, the second time by force."""
        for task in self._tasks:
            self._ray.cancel(task, force=self._stopped)
        self._stopped = True

    def close(self) -> None:
        """Leaves the cluster; one that was begun here ends."""
        if self._tasks:
            self.stop()
        deadline = time.monotonic() + PATIENCE
        while self._tasks and self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        self._ray.shutdown()

    def _over(self) -> list[Any]:
        return self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)[0] if self._tasks else []

    def _said(self, task: Any) -> str | None:
        errors = self._errors
        try:
            return self._ray.get(task)
        except errors.TaskCancelledError:
            return None
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            return KILLED
        except errors.RayError as error:
            return f"Ray could not run a worker: {first_line(error)}"


def _answers(address: str) -> None:
    """Raises UserError where nothing listens at an address within `PATIENCE` seconds."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 2**16):
        raise UserError(f"--with address is {address!r}, but is written host:port, ray://host:port, auto or local")
    deadline = time.monotonic() + PATIENCE
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            connection.sendall(HELLO)
            connection.recv(1)
    except OSError as error:
        reason = f"silent for {PATIENCE:g} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise UserError(
            f"no Ray cluster answers at {address}: {reason}; check address, or start one with ray start --head"
        ) from error
