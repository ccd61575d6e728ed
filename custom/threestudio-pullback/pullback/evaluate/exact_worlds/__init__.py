"""Worlds whose right answer is known: an exact denoiser, and a judge of samples.

    world = exact_worlds.world("shapes")
    field = world.diffrep()
    pullback.sample(field, world.views, world.denoise, world.sigmas(), generator=...)
    world.judge(field)

`evaluate` runs methods in worlds over many seeds and writes the tables.
"""

from __future__ import annotations

from pathlib import Path

from ..damaged import telling
from . import report, runner
from .methods import parse
from .worlds import GROUPS as GROUPS
from .worlds import WORLDS as WORLDS
from .worlds import expand as expand
from .worlds import world as world


def evaluate(names: list[str], labels: list[str], seeds: list[int], out: Path, workers: int = 1) -> str:
    """Runs every method in every world with every seed, but for the rows that `out` has, and writes the report.

    Args:
        names: Names of worlds.
        labels: Methods, as for `methods.parse`.
        seeds: A sample is made with each.
        out: The folder of rows, pictures and the report.
        workers: How many samples are made at a time.

    Returns:
        The text of the report, OUT/worlds.md.

    Raises:
        UserError: A world, method or option is unknown, or `out` has results of other settings.
    """
    variants = [parse(label) for label in labels]
    results = runner.run(names, variants, seeds, out, workers)
    with telling(results):
        return report.write(results, names, variants, seeds)
