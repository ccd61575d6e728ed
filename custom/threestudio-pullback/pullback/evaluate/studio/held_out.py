"""How NeRFs of the studio are judged: twelve objects that prompts name, and cameras that no run trains on."""

from __future__ import annotations

import functools

import torch

from . import naming
from . import world as worlds
from .world import StudioObject

OBJECTS = [StudioObject(*words.split()) for words in (
    "sphere red red", "cube green green", "cylinder blue blue", "cone yellow yellow", "torus purple purple",
    "diamond cyan cyan", "sphere yellow purple", "cube red blue", "cylinder cyan red", "cone green purple",
    "torus blue yellow", "diamond red green",
)]  # fmt: skip


def held_out_cameras(distance: float = worlds.CAMERA_DISTANCE) -> torch.Tensor:
    """Camera-to-world matrices [16,4,4]: all round, at 10° and 35° of elevation by turns."""
    i = torch.arange(16, dtype=torch.float32)
    return worlds.look_at(torch.where(i % 2 == 0, 10.0, 35.0), (i + 0.5) * 360 / 16, distance)


@functools.cache
def held_out_buffers(size: int, distance: float = worlds.CAMERA_DISTANCE) -> dict[str, torch.Tensor]:
    """`naming.exact_buffers` of the held-out cameras, computed once in a process."""
    return naming.exact_buffers(held_out_cameras(distance), size)
