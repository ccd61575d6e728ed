"""The runs of a comparison as units of a sweep: claimed on OUT, made by workers, a file for each result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...host.folders import hold
from ...sweep import check, drive, engines
from ...sweep.claims import version
from ...sweep.folder import EXPIRE, Folder
from ...sweep.making import Outcome
from ...sweep.plan import Plan, Unit
from ...sweep.worker import Job
from .. import options

Row = dict[str, Any]
EARLIER = "state.json"
"""What a comparison of an earlier version kept its rows in."""


@dataclass(frozen=True)
class Fleet:
    """Where the runs of a comparison are made.

    Attributes:
        on: The engine's name.
        options: Of the engine; None for its defaults.
        workers: How many runs there are at a time.
        threads: Of a run.
        expire: See `sweep.folder.EXPIRE`.
    """

    on: str = "local"
    options: Any = None
    workers: int = 2
    threads: int = 1
    expire: float = EXPIRE


def of(args: argparse.Namespace) -> Fleet:
    """What a command line says of it."""
    return Fleet(args.on, options.of_engine(args.on, args.options), args.workers, expire=args.expire)


@dataclass
class Made:
    """What a comparison has of runs.

    Attributes:
        file: The folder of the results.
        rows: A row for each run that has ended.
        read: Whether any of them was there before.
    """

    file: Path
    rows: list[Row] = field(default_factory=list)
    read: bool = False


def make(
    fleet: Fleet, out: Path, plan: Plan, making: Callable[[Folder, Unit], Outcome], say: Callable[[Row], str],
    checked: bool = True,
) -> Made:  # fmt: skip
    """Has workers make the runs that the folder lacks, and again those that could not be made.

    Args:
        fleet: Where.
        out: The comparison's folder.
        plan: What runs there are.
        making: Makes a run, see `sweep.worker.Job`.
        say: A row in a few words, for the progress.
        checked: Whether the variants' configs are the bundled host's, which are looked at before any worker begins.

    Raises:
        UserError: A config is wrong, the folder is of an earlier version, or no worker can go on.
    """
    if (out / EARLIER).exists():
        raise UserError(
            f"--out {out} holds a comparison of an earlier version, which this one cannot go on with; `pullback "
            "report` still makes its page; choose another folder"
        )
    folder = Folder(out, fleet.expire)
    folder.check()
    folder.propose(plan)
    units = folder.units(plan=plan.name)
    folder.retry_failed(units)
    present = folder.ended()
    if checked and (missing := [unit for unit in units if unit.name not in present]):
        check.check(folder, missing)
    folder.add(plan)
    job = Job(
        str(folder.out), fleet.threads, expire=fleet.expire, version=version(), cwd=os.getcwd(), plan=plan.name,
        making=making,
    )  # fmt: skip
    kind = engines.find(fleet.on)
    chosen = kind.Options() if fleet.options is None else fleet.options
    drive.drive(
        folder, job, lambda: kind(job, chosen, fleet.workers), lambda line: print(line, flush=True),
        lambda folder, unit, row: say(_whole(folder, unit, row)),
    )  # fmt: skip
    return _read(folder, units, any(unit.name in present for unit in units))


def there(out: Path, plan: Plan) -> Made:
    """The results of a plan that a folder has already."""
    folder = Folder(out)
    folder.variants |= {variant.name: variant for variant in plan.variants}
    return _read(folder, list(plan.units()), True)


def refuse_failed(made: Made) -> None:
    """Raises UserError where a run could not be made, for runs that all others depend on."""
    for row in made.rows:
        if row["status"] == "failed":
            raise UserError(f"{row['method']} does not run: {row['reason']}")


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A context in which no other driver writes to the folder what is of all runs; it waits for one that does."""
    lock = hold(str(out), "it writes the report", patience=600)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _read(folder: Folder, units: Sequence[Unit], read: bool) -> Made:
    rows = [_whole(folder, unit, row) for unit, row in folder.rows(units)]
    return Made(folder.out / "results", rows, read)


def _whole(folder: Folder, unit: Unit, row: Row) -> Row:
    """A run's row; of one that could not be made, it has no measures."""
    label = folder.variants[unit.variant].label
    return {"method": label, "command": "", "measures": {}, "reason": None, **row}
