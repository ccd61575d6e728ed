"""The worlds by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

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
    """The world of a name, made once in a process; raises UserError for an unknown name."""
    return WORLDS[_check(name)]()


def _check(name: str) -> str:
    if name not in WORLDS:
        raise UserError(f"--world {name} is not known; use {', '.join(WORLDS)}, or {', '.join(GROUPS)} for several")
    return name


def expand(text: str) -> list[str]:
    """Expands names of worlds and groups, with commas between them, to worlds; raises UserError for other names."""
    return list(dict.fromkeys(_check(name) for part in text.split(",") for name in GROUPS.get(part, [part])))
