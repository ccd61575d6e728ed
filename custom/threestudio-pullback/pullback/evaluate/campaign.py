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

from ..errors import UserError
from ..resources import TINY_MODEL
from ..version import commit

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


def with_progress(rows: Iterator[T], total: int, say: Callable[[T], str]) -> Iterator[T]:
    """The rows as they come; once one has been dealt with, a line says what it is and how much is left."""
    start = time.time()
    for count, row in enumerate(rows, 1):
        yield row
        left = (time.time() - start) / count * (total - count)
        print(f"[{count}/{total}] {say(row)}; {left / 60:.1f} min left", flush=True)


class Results:
    """The rows of a folder in its one JSON file: kept after each, so that an interrupted campaign goes on.

    Args:
        file: {..., "rows": [...]}; written whole. A row with `failed` is left out, so that it is made again.
        key: The fields of a row that say which one it is.

    Attributes:
        data: All but the rows: the settings they were made with, and what else a campaign keeps.
    """

    def __init__(self, file: Path, key: tuple[str, ...]) -> None:
        self.file, self.out, self.key = file, file.parent, key
        try:
            self.data: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        except ValueError:
            raise UserError(f"{file} is not valid JSON; remove it, or choose another folder by --out") from None
        self.rows: list[dict[str, Any]] = [row for row in self.data.pop("rows", []) if "failed" not in row]

    def match(self, *path: str, value: Any, absent: dict[str, Any] | None = None, content: str = "") -> None:
        """Holds the folder to a setting; takes it over where the folder has none yet.

        Args:
            path: Where it is in `data`.
            value: A plain value, or a dict of them.
            absent: Values of options that were added since the folder was made; options that are gone do not count.
            said: What the folder holds instead, for values that mean nothing to a reader.

        Raises:
            UserError: The folder has another value; the sentence says which.
        """
        *above, last = path
        place = self.data
        for name in above:
            place = place.setdefault(name, {})
        saved = place.setdefault(last, value)
        if isinstance(value, dict) and isinstance(saved, dict):
            if absent is not None:
                saved = {key: v for key, v in {**absent, **saved}.items() if key in value}
            pairs = {key: (saved.get(key), value.get(key)) for key in {**saved, **value}}
        else:
            pairs = {f"--{last}": (saved, value)}
        differ = ", ".join(f"{key} {old}, not {new}" for key, (old, new) in pairs.items() if old != new)
        if differ:
            what = content or f"of other settings: {': '.join([*path[1:], differ]) if len(path) > 1 else differ}"
            raise UserError(f"--out {self.out} holds results {what}; choose another folder")

    def of(self, *first: Any) -> list[dict[str, Any]]:
        """The rows whose key begins like this, in the order of their keys."""
        rows = [row for row in self.rows if self.key_of(row)[: len(first)] == first]
        return sorted(rows, key=self.key_of)

    def run(
        self, function: Callable[..., dict[str, Any]], tasks: dict[Any, tuple[Any, ...]], workers: int,
        say: Callable[[dict[str, Any]], str],
    ) -> Results:  # fmt: skip
        """The rows function(*arguments) of the tasks {key: arguments} that the folder lacks, `workers` at a time."""
        present = {self.key_of(row) for row in self.rows}
        todo = [arguments for key, arguments in tasks.items() if key not in present]
        for row in with_progress(each(function, todo, workers), len(todo), say):
            self.rows.append(row | {"commit": commit()})
            self.save()
        return self

    def save(self) -> None:
        """Writes the file."""
        write_json(self.file, {**self.data, "rows": self.rows})

    def key_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """The values of a row's key."""
        return tuple(row[name] for name in self.key)


def model_option(path: str) -> list[str]:
    """The words of a command line that name a model; none for the shipped one, which is the default."""
    return [] if Path(path) == TINY_MODEL else ["--model", path]


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
