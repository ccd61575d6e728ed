"""Several gloo processes, forked from the test's own, so that they begin with what it has loaded."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_stores: list[dist.TCPStore] = []


def started(count: int, folder: Path, act: Callable[[int], int]) -> list[int]:
    """Starts act(rank) in processes with torchrun's environment; what each prints goes to RANK.out and RANK.err.

    The store is in this process, as torchrun has it in its own.

    Returns:
        Their process ids; what act returns is their exit status.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    _stores.append(store)  # it lives as long as its processes may ask
    sys.stdout.flush()
    pids = []
    for rank in range(count):
        pids.append(os.fork())
        if pids[-1] == 0:
            status = 99
            try:
                torch.set_num_threads(1)
                os.environ.update(
                    RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
                    MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port), TORCHELASTIC_USE_AGENT_STORE="True",
                )  # fmt: skip
                out, err = (folder / f"{rank}.out").open("w"), (folder / f"{rank}.err").open("w")
                with out, err, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    status = act(rank)
            finally:
                os._exit(status)
    return pids


def ended(pids: list[int]) -> list[int]:
    """Their exit statuses."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def together(count: int, folder: Path, act: Callable[[int], Any]) -> list[Any]:
    """What act(rank) returns in each of several processes of one gloo group."""

    def joined(rank: int) -> int:
        dist.init_process_group("gloo", rank=rank, world_size=count)
        torch.save(act(rank), folder / f"{rank}.pt")
        dist.destroy_process_group()
        return 0

    assert ended(started(count, folder, joined)) == [0] * count
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]
