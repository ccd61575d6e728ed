"""One run on several devices: a process for each, by torchrun or started here with PyTorch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .. import processes
from ..errors import UserError

PATIENCE = 600
"""Seconds that a stopped run has for its step before its processes are killed."""


def launched() -> int:
    """Processes of the run that this one belongs to, as torchrun says in the environment; 1 without it."""
    named = all(key in os.environ for key in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ.get("WORLD_SIZE", 1)) if named else 1


def wanted(trainer: Any, gpus: Sequence[str]) -> int:
    """Devices that a command line, a config and torchrun ask for.

    Args:
        trainer: The config's block.
        gpus: The numbers of --gpu.

    Raises:
        UserError: They contradict each other, or there are not so many.
    """
    started, devices = launched(), trainer.get("devices", 1)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise UserError(f"`trainer.devices` must be a number of devices, at least 1, not {devices!r}; see --gpu")
    asked = {name: number for name, number in (
        ("`trainer.devices`", devices), ("--gpu", len(gpus)), ("torchrun", started),
    ) if number > 1}  # fmt: skip
    if len(set(asked.values())) > 1:
        said = " and ".join(f"{name} asks for {number} devices" for name, number in asked.items())
        raise UserError(f"{said}; leave one of them out")
    count = max(asked.values(), default=1)
    if count > 1 and trainer.get("strategy", "auto") not in ("auto", "ddp"):
        raise UserError(f"`trainer.strategy` must be ddp on several devices, not {trainer['strategy']!r}")
    seen = 0 if trainer.get("accelerator") == "cpu" else torch.cuda.device_count()
    if len(gpus) > 1 and seen == 0:
        raise UserError(f"--gpu names {count} GPUs, but none can be used; on a CPU, set trainer.devices={count}")
    if started == 1 and 0 < seen < count:
        raise UserError(f"{count} devices are asked for, but {seen} CUDA device(s) are seen; ask for fewer")
    return count


def check_system(system: Any, name: str, count: int) -> None:
    """UserError where a system's runs take one device, and several are asked for."""
    if count > 1 and not getattr(system, "several_devices", False):
        raise UserError(f"`system_type` is {name}, whose runs take one device, not {count}; start one run for each")


def start(command: Sequence[str], count: int) -> int:
    """Runs a command in several processes; all end where one fails, and a signal reaches all.

    Returns:
        The exit status of the first that failed, or 0; 128 + the signal where one stopped them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a launcher that is gone is told of by a sentence of ours
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, run_id="pullback",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", shutdown_timeout=PATIENCE,
    )  # fmt: skip
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


class Together:
    """This process's part in the run; only one process tells what ends the run."""

    def __init__(self) -> None:
        store, self.rank, self.count = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
        self._store, self._notes = store, dist.PrefixStore("pullback", store)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self.rank:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (to the end of the process)

    def join(self, device: torch.device) -> None:
        """Connects the processes, each with its device."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.count)

    def scratch(self) -> str:
        """A folder for what this process writes, which is removed at its end: only the first one's files are kept."""
        self._folder = tempfile.TemporaryDirectory(prefix="pullback-")
        return self._folder.name

    def tells(self, status: int) -> tuple[bool, int]:
        """Whether this process says what has ended the run, and the exit status of the run.

        The first that fails says it; the others end since they miss it. Where all are stopped, rank 0 does. Where the
        launcher is gone, nobody knows who was first, and each that is left says it: rank 0 may be the one that is not.

        Args:
            status: This process's own.
        """
        try:
            if status > 128:
                return self.rank == 0 and self._notes.add("failed", 0) == 0, status
            if self._notes.add("failed", 1) == 1:
                self._notes.set("status", str(status))
                return True, status
            self._notes.wait(["status"], timedelta(seconds=5))
            return False, int(self._notes.get("status"))
        except RuntimeError:  # the launcher is gone
            return self.rank == 0 or status <= 128, status


def settings() -> dict[str, Any]:
    """What Lightning's trainer gets in a run on several devices."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", launched()))
    # every process shows all test views; the first one's pictures are kept
    return {"devices": local, "num_nodes": launched() // local, "strategy": "ddp", "use_distributed_sampler": False}


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone: gloo has no class for it, NCCL has."""
    if not dist.is_available() or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or "gloo/transport" in str(error)


def agreed(number: int, device: torch.device) -> int:
    """The largest of all processes' numbers."""
    if processes.count() == 1:
        return number
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)
