"""Worlds whose right answer is known: an exact denoiser, and a judge of what was sampled.

    world = known.world("shapes")
    field = world.diffrep()
    pullback.sample(field, world.views, world.denoise, world.sigmas(), generator=...)
    world.judge(field)

`evaluate` runs methods in worlds over many seeds and writes the tables.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from ...errors import UserError
from . import gauss, panorama, rings, sceneworld
from .protocol import World

WORLDS: dict[str, Callable[[], World]] = {
    "gauss-square": gauss.square,
    "gauss-tall": gauss.tall,
    "gauss-stiff": gauss.stiff,
    "gauss-large": gauss.large,
    "mixture": rings.mixture,
    "rings": rings.rings,
    "shapes": sceneworld.shapes,
    "weighted-shapes": sceneworld.weighted_shapes,
    "two-tone": sceneworld.two_tone,
    "weighted-two-tone": sceneworld.weighted_two_tone,
    "crowd": sceneworld.crowd,
    "panorama": panorama.panorama,
    "panorama-grid": panorama.panorama_grid,
}
GROUPS = {
    "all": list(WORLDS),
    "gauss": ["gauss-square", "gauss-tall", "gauss-stiff", "gauss-large"],
    "plane": ["mixture", "rings"],
    "scenes": ["shapes", "weighted-shapes", "two-tone", "weighted-two-tone", "crowd"],
    "panoramas": ["panorama", "panorama-grid"],
}


@functools.cache
def world(name: str) -> World:
    """The world of that name, made once per process; raises UserError if there is none."""
    return WORLDS[_check(name)]()


def _check(name: str) -> str:
    if name not in WORLDS:
        raise UserError(f"--world {name} is not known; use {', '.join(WORLDS)}, or {', '.join(GROUPS)} for several.")
    return name


def expand(text: str) -> list[str]:
    """Names of worlds and groups, with commas between them, as names of worlds; raises UserError for others."""
    return list(dict.fromkeys(_check(name) for part in text.split(",") for name in GROUPS.get(part, [part])))


def evaluate(names: list[str], labels: list[str], seeds: list[int], out: Path, workers: int = 1) -> str:
    """Runs every method in every world with every seed, goes on from what `out` holds, and writes the report.

    labels: methods, as for methods.parse. Returns the report's text, OUT/worlds.md. Raises UserError for an
    unknown world, method or option, and where `out` holds results of other settings.
    """
    from . import report, runner
    from .methods import parse

    chosen = [parse(label) for label in labels]
    return report.write(runner.run(names, chosen, seeds, out, workers), names, chosen, seeds)
