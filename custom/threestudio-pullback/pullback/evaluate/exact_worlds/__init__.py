"""Worlds whose right answer is known: an exact denoiser, and a judge of what was sampled.

    world = known.world("shapes")
    field = world.diffrep()
    pullback.sample(field, world.views, world.denoise, world.sigmas(), generator=...)
    world.judge(field)

`evaluate` runs methods in worlds over many seeds and writes the tables.
"""

from __future__ import annotations

from pathlib import Path

from . import report, runner
from .methods import parse
from .worlds import GROUPS as GROUPS
from .worlds import WORLDS as WORLDS
from .worlds import expand as expand
from .worlds import world as world


def evaluate(names: list[str], labels: list[str], seeds: list[int], out: Path, workers: int = 1) -> str:
    """Runs every method in every world with every seed, goes on from what `out` holds, and writes the report.

    labels: methods, as for methods.parse. Returns the report's text, OUT/worlds.md. Raises UserError for an
    unknown world, method or option, and where `out` holds results of other settings.
    """
    variants = [parse(label) for label in labels]
    return report.write(runner.run(names, variants, seeds, out, workers), names, variants, seeds)
