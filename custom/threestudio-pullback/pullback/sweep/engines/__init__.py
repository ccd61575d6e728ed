"""Where workers run. An engine is a file in this folder with a class `Engine`; the file's name is the engine's."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Protocol

from ...errors import UserError
from ..worker import Job


class Engine(Protocol):
    """Starts workers, each of which runs `worker.work(job)`, and says what becomes of them.

    Attributes:
        Options: A dataclass of the engine's options, for the command line.
    """

    Options: type

    def __init__(self, job: Job, options: Any, workers: int | None) -> None:
        """Begins; UserError where the engine cannot be had.

        Args:
            job: What each worker is told.
            options: Of the engine.
            workers: How many workers there will be; None for its own number.
        """
        ...

    @property
    def workers(self) -> int:
        """How many workers there should be."""
        ...

    def start(self, count: int) -> None:
        """Starts more workers."""
        ...

    def alive(self) -> int:
        """How many workers run, or will when there is room."""
        ...

    def ended(self) -> list[str | None]:
        """What those said that have ended since the last call, see `worker.work`; `KILLED` for one that could not."""
        ...

    def stop(self) -> None:
        """Asks all workers to stop in good order; a second call stops them at once."""
        ...

    def close(self) -> None:
        """Ends what the engine has begun; no worker is left."""
        ...


KILLED = "a worker was killed"
"""What is said for a worker that was killed."""


def names() -> list[str]:
    """The engines' names."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Engine]:
    """The class of an engine.

    Raises:
        UserError: There is no such engine.
    """
    if name not in names():
        raise UserError(f"--on is {name!r}, but must be one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").Engine
