"""The driver: starts workers, and tells how far they are. It may be killed, and begun again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from ..errors import UserError
from .engines import KILLED, Engine
from .folder import Folder
from .plan import Unit
from .status import sentence
from .worker import Job

POLL = 0.5
"""Seconds between two looks at the folder."""
DEATHS = 5
"""Workers in a row that may be killed without one claim more."""


class Stopped(UserError):
    """Ctrl-C or SIGTERM; the workers have stopped in good order."""


Describe = Callable[[Folder, Unit, dict[str, Any]], str]


def drive(
    folder: Folder, job: Job, begin: Callable[[], Engine], say: Callable[[str], Any], describe: Describe = sentence
) -> None:
    """Has workers make all units of the job that the folder lacks.

    Args:
        folder: The sweep's.
        job: What each worker is told.
        begin: Makes the engine; it is not called where nothing is left to do.
        say: Gets a line about each unit that has ended.
        describe: A unit's result in a few words.

    Raises:
        UserError: No worker can go on.
        Stopped: By Ctrl-C or SIGTERM.
    """
    units = folder.units(job.part, job.plan)
    present = folder.ended()
    todo = [unit for unit in units if unit.name not in present]
    if len(todo) < len(units):
        say(f"{len(units) - len(todo)} of {len(units)} runs are there already")
    if todo:
        engine = begin()
        with _Signals() as signals:
            try:
                _watch(folder, job, engine, min(engine.workers, len(todo)), signals, say, describe)
            finally:
                engine.close()


class _Signals:
    """The first SIGINT or SIGTERM is noted; a second one too. Neither raises."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        def note(*_: object) -> None:
            self.count += 1

        self._before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


def _watch(
    folder: Folder, job: Job, engine: Engine, workers: int, signals: _Signals, say: Callable[[str], Any],
    describe: Describe,
) -> None:  # fmt: skip
    units = {unit.name: unit for unit in folder.units(job.part, job.plan)}
    told = folder.ended() & units.keys()
    began, first, deaths, claims = time.monotonic(), len(told), 0, -1
    refused: list[str] = []
    engine.start(workers)
    stopping = 0
    while True:
        if signals.count > stopping:
            if not stopping:
                say("Stopping: each worker ends its step and saves it; once more stops at once")
            stopping = signals.count
            engine.stop()
        ended = folder.ended() & units.keys()
        for unit, row in folder.rows([units[name] for name in sorted(ended - told)]):
            told.add(unit.name)
            left = (time.monotonic() - began) / (len(told) - first) * (len(units) - len(told))
            say(f"[{len(told)}/{len(units)}] {describe(folder, unit, row)}; {left / 60:.1f} min left")
        killed = 0
        for word in engine.ended():
            killed += word == KILLED
            if word not in (None, KILLED) and word not in refused:
                refused.append(word)
                say(f"A worker has ended: {word}")
        if killed:
            now = sum(folder.claims.numbers().values())
            deaths, claims = (0 if now != claims else deaths + killed), now
        alive = engine.alive()
        if stopping and not alive:
            raise Stopped("stopped; the same command goes on")
        if len(told) == len(units):
            return
        if not stopping and not refused:
            if deaths >= DEATHS:
                raise UserError(
                    f"{deaths} workers in a row were killed before they could claim a run; see memory and logs"
                )
            missing = min(workers, len(units) - len(told)) - alive
            if missing > 0:
                engine.start(missing)
        elif refused and not alive:
            raise UserError(refused[0])
        time.sleep(POLL)
