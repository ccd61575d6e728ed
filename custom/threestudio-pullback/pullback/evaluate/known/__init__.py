"""Worlds whose right answer is known: an exact denoiser, and a judge of what was sampled.

world = known.world("shapes")
field = world.diffrep()
pullback.sample(field, world.views, world.denoise, world.sigmas(), generator=...)
world.judge(field)
"""

from __future__ import annotations

import functools
from typing import Any

from ...errors import UserError
from . import sceneworld

WORLDS = {
    "shapes": sceneworld.shapes,
    "weighted-shapes": sceneworld.weighted_shapes,
    "two-tone": sceneworld.two_tone,
    "weighted-two-tone": sceneworld.weighted_two_tone,
    "crowd": sceneworld.crowd,
}


@functools.cache
def world(name: str) -> Any:
    """The world of that name, made once per process; raises UserError if there is none."""
    if name not in WORLDS:
        raise UserError(f"--world {name} is not known; use one of {', '.join(WORLDS)}.")
    return WORLDS[name]()
