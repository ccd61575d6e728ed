"""Runs methods in worlds over seeds, on several processes, and keeps every result."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import NonFiniteError, UserError
from ...output.pictures import save_png
from ...version import commit
from ..campaign import each, told, write_json
from . import methods
from .methods import Method
from .worlds import world


class Task(NamedTuple):
    """One sample: a world's name, a method's label, a seed."""

    world: str
    method: str
    seed: int


def run_one(task: Task, out: Path) -> dict[str, Any]:
    """Samples, judges and pictures one task.

    nfe: denoiser calls per sample. seconds: of this process on the processor, without the judging. judged: what
    the world says. extra: what the method says. failed: the message, if the numbers became infinite.
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
    return out / task.world / re.sub(r"[^A-Za-z0-9.]+", "-", task.method) / f"{task.seed}.png"


class Results:
    """The rows of a folder, in OUT/worlds.json: kept after every result, and found again.

    Raises UserError where the folder holds results of a method of the same label with other settings.
    """

    def __init__(self, out: Path, names: list[str], chosen: list[Method]):
        self.out, self.file = out, out / "worlds.json"
        saved = json.loads(self.file.read_text()) if self.file.exists() else {"settings": {}, "rows": []}
        self.settings: dict[str, dict[str, Any]] = saved["settings"]
        self.rows: list[dict[str, Any]] = [row for row in saved["rows"] if "failed" not in row]
        for name in names:
            known = self.settings.setdefault(name, {})
            for method in chosen:
                settings = method.settings(world(name))
                if known.setdefault(method.label, settings) != settings:
                    raise UserError(
                        f"--out {out} holds results of {method.label!r} in {name} with other settings "
                        f"({known[method.label]}, not {settings}); choose another folder."
                    )

    def done(self) -> set[Task]:
        return {Task(row["world"], row["method"], row["seed"]) for row in self.rows}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        write_json(self.file, {"settings": self.settings, "rows": self.rows})

    def of(self, name: str, label: str) -> list[dict[str, Any]]:
        """The rows of one method in one world, by seed."""
        rows = [row for row in self.rows if row["world"] == name and row["method"] == label]
        return sorted(rows, key=lambda row: row["seed"])


def run(names: list[str], chosen: list[Method], seeds: list[int], out: Path, workers: int) -> Results:
    """Every method in every world with every seed that `out` does not hold yet, `workers` at a time."""
    results = Results(out, names, chosen)
    wanted = [Task(name, method.label, seed) for name in names for seed in seeds for method in chosen]
    done = results.done()
    todo = [task for task in wanted if task not in done]
    for row in told(each(run_one, ((task, out) for task in todo), workers), len(todo), _said):
        results.add(row | {"commit": commit()})
    return results


def _said(row: dict[str, Any]) -> str:
    verdict = f"failed: {row['failed']}" if "failed" in row else world(row["world"]).verdict(row["judged"])
    return f"{row['world']}, {row['method']}, seed {row['seed']}: {verdict}"
