"""What every evaluation of many samples needs: workers, and results that outlive an interruption."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def each(function: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """function(*arguments) for each of the calls, as they end: here for one worker, else in processes of one thread.

    function must be importable by its name. An exception, or closing the iterator, gives up the calls not yet begun.
    """
    todo = list(calls)
    if workers == 1 or not todo:
        yield from (function(*arguments) for arguments in todo)
        return
    # Started afresh, not forked: a fork of a process that has run PyTorch's threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _single_thread) as pool:
        futures = [pool.submit(function, *arguments) for arguments in todo]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def told(rows: Iterator[T], total: int, say: Callable[[T], str]) -> Iterator[T]:
    """The rows as they come; once one has been dealt with, a line says what it is and how much is left."""
    start = time.time()
    for count, row in enumerate(rows, 1):
        yield row
        left = (time.time() - start) / count * (total - count)
        print(f"[{count}/{total}] {say(row)}; {left / 60:.1f} min left", flush=True)


def write_json(file: Path, data: Any) -> None:
    """Writes it whole; makes the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(data, indent=1) + "\n")


def write_whole(file: Path, text: str) -> None:
    """A run that is killed leaves the old file or the new one."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text, encoding="utf-8", newline="")
    fresh.replace(file)


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when the one that started it is gone, however that ended: killed, it could
    not tell its children to stop, and the command given again would run beside them."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _single_thread() -> None:
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
