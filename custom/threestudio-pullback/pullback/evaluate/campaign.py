"""What every evaluation of many samples needs: worker processes, and results that outlive an interruption."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import UserError
from ..host.folders import hold
from ..output import whole
from ..resources import TINY_MODEL
from ..sweep.process import end_with_parent
from ..version import commit

T = TypeVar("T")
AGAIN = "remove it, or choose another folder by --out"


def each(function: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """Yields the results of function(*arguments), in the order in which the calls end.

    One worker means this process; several are processes with one thread each. An exception cancels the calls that
    have not begun, and so does closing the iterator.

    Args:
        function: Has to be importable by its name.
        calls: The arguments of each call.
        workers: How many calls run at a time.
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
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a worker process was killed, perhaps for its memory; start the command again to go on, with fewer "
                    "--workers"
                ) from error
            raise


def with_progress(rows: Iterator[T], total: int, say: Callable[[T], str]) -> Iterator[T]:
    """Yields the rows, and prints a line about each, with the time that is left, when the caller asks for the next."""
    start = time.time()
    for count, row in enumerate(rows, 1):
        yield row
        left = (time.time() - start) / count * (total - count)
        print(f"[{count}/{total}] {say(row)}; {left / 60:.1f} min left", flush=True)


class Results:
    """The rows of a folder, in one JSON file that is saved after each of them: an interrupted campaign goes on.

    Args:
        file: {..., "rows": [...]}. Rows with `failed` are not read, so that they are made again.
        key: The fields that identify a row.

    Attributes:
        data: All of the file but its rows: the settings of the rows, and what else a campaign keeps.
        read: Whether any of it is from the file.

    Raises:
        UserError: The file is no JSON.
    """

    def __init__(self, file: Path, key: tuple[str, ...]) -> None:
        self.file, self.out, self.key = file, file.parent, key
        try:
            self.data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except (ValueError, RecursionError):
            raise UserError(f"{file} is not valid JSON; {AGAIN}") from None
        rows = self.data.pop("rows", []) if isinstance(self.data, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file} should hold rows of results, but does not; {AGAIN}")
        self.rows: list[dict[str, Any]] = [row for row in rows if "failed" not in row]
        self.read = bool(self.data or self.rows)
        for row in self.rows:
            for name in key:
                if not isinstance(row.get(name), (str, int, float)):
                    raise UserError(f"{file} has a row whose {name} is {row.get(name)!r}; {AGAIN}")

    def match(self, *path: str, value: Any, absent: dict[str, Any] | None = None, content: str = "") -> None:
        """Checks that a setting is the folder's; saves it where the folder has none yet.

        Args:
            path: The keys that lead to the setting in `data`.
            value: A plain value, or a dict of them.
            absent: Values of options that an older folder may lack; options that no longer exist do not count.
            content: What the folder has instead, for a value that means nothing to a reader, such as a checksum.

        Raises:
            UserError: The folder has another value.
        """
        *above, last = path
        place = self.data
        for name in above:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UserError(f"{self.file} has {place!r} for {name}, which should be a block; {AGAIN}")
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

    def claimed(self) -> Results:
        """The results themselves, whose folder no other process writes to while they live.

        Raises:
            UserError: Another process is writing to it.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self._lock = hold(str(self.out), "wait for it or stop it, or choose another folder by --out")
        return self

    def of(self, *first: Any) -> list[dict[str, Any]]:
        """The rows whose keys begin with these values, in the order of their keys."""
        rows = [row for row in self.rows if self.key_of(row)[: len(first)] == first]
        return sorted(rows, key=self.key_of)

    def run(
        self, function: Callable[..., dict[str, Any]], tasks: dict[Any, tuple[Any, ...]], workers: int,
        say: Callable[[dict[str, Any]], str],
    ) -> Results:  # fmt: skip
        """Makes the rows that the folder lacks, and returns the results themselves.

        Args:
            function: Makes a row.
            tasks: Key of a row -> the function's arguments.
            workers: How many rows are made at a time.
            say: A row in a few words, for the progress.
        """
        present = {self.key_of(row) for row in self.rows}
        todo = [arguments for key, arguments in tasks.items() if key not in present]
        for row in with_progress(each(function, todo, workers), len(todo), say):
            self.rows.append(row | {"commit": commit()})
            self.save()
        return self

    def save(self) -> None:
        """Saves the file."""
        write_json(self.file, {**self.data, "rows": self.rows})

    def key_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """The values of a row's key."""
        return tuple(row[name] for name in self.key)


def model_option(path: str) -> list[str]:
    """The words of a command line that name a model; none for the shipped one, which is the default."""
    return [] if Path(path) == TINY_MODEL else ["--model", path]


def write_json(file: Path, data: Any) -> None:
    """Writes data as JSON, whole; makes the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole.write(file, json.dumps(data, indent=1) + "\n")


def _single_thread() -> None:
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
