"""Runs methods in worlds over seeds, in several processes, and saves every result."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import NonFiniteError
from ...output.file_names import earlier, slug
from ...output.pictures import save_png
from ..campaign import Results
from . import methods
from .methods import Variant
from .worlds import world


class Task(NamedTuple):
    """One sample: a world's name, a method's label, a seed."""

    world: str
    method: str
    seed: int


def run_one(task: Task, out: Path) -> dict[str, Any]:
    """Samples one task, judges it and saves its picture.

    Returns:
        The row. nfe: denoiser calls of a sample. seconds: processor time of the sampling. judged: the world's verdict.
        extra: the method's own values. failed: the message, if a number became infinite or NaN.
    """
    where, method = world(task.world), methods.parse(task.method)
    where.prepare()
    row: dict[str, Any] = task._asdict()
    start = time.process_time()
    try:
        outcome = method(where, task.seed)
    except NonFiniteError as error:
        return row | {"failed": str(error)}
    row |= {"nfe": outcome.nfe, "seconds": round(time.process_time() - start, 2), "extra": outcome.extra}
    picture = where.picture(outcome.diffrep)
    if picture is not None:
        path = picture_of(out, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, picture)
    return row | {"judged": where.judge(outcome.diffrep)}


def picture_of(out: Path, task: Task) -> Path:
    """Where a sample's picture lies."""
    return out / task.world / slug(task.method) / f"{task.seed}.png"


def saved_picture(out: Path, task: Task) -> Path:
    """The picture that a folder has, also one that an earlier version named."""
    old = re.sub(r"[^A-Za-z0-9.]+", "-", task.method)
    return earlier(picture_of(out, task), out / task.world / old / f"{task.seed}.png")


def results_of(out: Path) -> Results:
    """The rows of a folder."""
    return Results(out / "worlds.json", Task._fields)


def run(names: list[str], variants: list[Variant], seeds: list[int], out: Path, workers: int) -> Results:
    """Samples every method in every world with every seed, but for the rows that OUT/worlds.json has.

    Raises:
        UserError: The file has results of a method with the same label and other settings.
    """
    results = results_of(out).claimed()
    for name in names:
        for method in variants:
            settings = method.settings(world(name))
            results.match("settings", name, method.label, value=settings, absent=methods.METHODS[method.name].options)
    tasks = [Task(name, method.label, seed) for name in names for seed in seeds for method in variants]
    return results.run(run_one, {task: (task, out) for task in tasks}, workers, _sentence)


def _sentence(row: dict[str, Any]) -> str:
    verdict = f"failed: {row['failed']}" if "failed" in row else world(row["world"]).verdict(row["judged"])
    return f"{row['world']}, {row['method']}, seed {row['seed']}: {verdict}"
