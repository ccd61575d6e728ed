"""The best settings of every method from one grid, by a comparison on seeds that are used for nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from typing import Any

import yaml
from omegaconf import OmegaConf

from ...errors import UserError
from ...output.file_names import plain
from ..campaign import write_json
from . import runner
from .plan import Method
from .runner import Comparison

ALIASES = {"lr": ("system.optimizer.params.geometry.lr", "system.optimizer.args.lr")}
"""Short names of keys; each means the first of its keys that a config has."""
FIRST_SEED = 1000
PROMPTS, SEEDS = 3, 2
"""How many prompts, spread over the list, and how many seeds, from FIRST_SEED on, the search uses."""
CRITERIA = ("right", "r_precision", "clip_score", "psnr")
"""Measures that decide: the first in which two settings differ. Higher is better; a diverged run counts as 0."""


def parse(texts: list[str]) -> dict[str, list[Any]]:
    """Reads a grid: ["lr=0.01,0.1"] gives {"lr": [0.01, 0.1]}; raises UserError for other texts."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        try:
            options = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            options = []
        if not equals or not key or not options:
            raise UserError(f"--tune is written key=value,value, such as lr=0.01,0.03,0.1, not {text!r}")
        grid[key] = options
    return grid


def variants(method: Method, grid: dict[str, list[Any]]) -> list[Method]:
    """The method at every point of the grid, over those keys that its config has."""
    own = {path: values for key, values in grid.items() if (path := _path(method, key)) is not None}
    points = []
    for values in itertools.product(*own.values()):
        settings = dict(zip(own, values, strict=True))
        parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items()]
        name = plain("-".join([method.name, *parts]), r"[^A-Za-z0-9._+-]+", most=120)
        points.append(dataclasses.replace(method.with_settings(settings), name=name))
    return points


def tune(comparison: Comparison, grid: dict[str, list[Any]]) -> Comparison:
    """Searches the best point of the grid for each method, in OUT/tune/, and writes OUT/tune/tuned.json.

    Returns:
        The comparison, with each method at its best point.

    Raises:
        UserError: No method's config has one of the keys.
    """
    for key in grid:
        if all(_path(method, key) is None for method in comparison.methods):
            raise UserError(f"--tune: no method's config has the key `{key}`; give a dotted key, or lr")
    step = max(1, len(comparison.prompts) // PROMPTS)
    families = {method.name: variants(method, grid) for method in comparison.methods}
    search = dataclasses.replace(
        comparison, out=comparison.out / "tune", methods=[one for family in families.values() for one in family],
        prompts=comparison.prompts[::step][:PROMPTS], seeds=list(range(FIRST_SEED, FIRST_SEED + SEEDS)),
    )  # fmt: skip
    rows = runner.run(search)[0].rows
    winners, table = [], {}
    for method in comparison.methods:
        scores = {one.name: _score([r for r in rows if r["method"] == one.name]) for one in families[method.name]}
        best = max(families[method.name], key=lambda one: scores[one.name])
        winners.append(dataclasses.replace(best, name=method.name))
        table[method.name] = {"chosen": _difference(method, best), "scores": scores}
        print(f"{method.name}: best of {len(scores)} is {best.name}", flush=True)
    write_json(search.out / "tuned.json", {"judged_by": CRITERIA, "methods": table})
    return dataclasses.replace(comparison, methods=winners)


def _path(method: Method, key: str) -> str | None:
    return next((p for p in ALIASES.get(key, (key,)) if OmegaConf.select(method.config, p) is not None), None)


def _score(rows: list[dict[str, Any]]) -> tuple[float, ...]:
    """The means of the measures that decide, in their order."""
    scores = []
    for name in CRITERIA:
        if any(name in row["measures"] for row in rows):
            scores.append(statistics.mean(row["measures"].get(name, 0.0) * (row["status"] == "done") for row in rows))
    return tuple(scores)


def _difference(method: Method, best: Method) -> dict[str, Any]:
    return {key: value for key, value in best.settings.items() if method.settings.get(key) != value}
