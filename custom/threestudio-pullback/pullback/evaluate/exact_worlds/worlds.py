"""The worlds by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...errors import UserError
from . import gauss, panorama, rings, sceneworld, textured
from .joint import joint
from .protocol import World

WORLDS: dict[str, Callable[[], World]] = {
    "gauss-square": gauss.square,
    "gauss-tall": gauss.tall,
    "gauss-stiff": gauss.stiff,
    "gauss-large": gauss.large,
    "gauss-texture": textured.textured,
    "mixture": rings.mixture,
    "rings": rings.rings,
    "shapes": sceneworld.shapes,
    "weighted-shapes": sceneworld.weighted_shapes,
    "two-tone": sceneworld.two_tone,
    "weighted-two-tone": sceneworld.weighted_two_tone,
    "crowd": sceneworld.crowd,
    "badge": sceneworld.badge,
    "panorama": panorama.panorama,
    "panorama-grid": panorama.panorama_grid,
}
SCENES = ["shapes", "weighted-shapes", "two-tone", "weighted-two-tone", "crowd", "badge"]
WORLDS |= {f"joint-{name}": joint(getattr(sceneworld, name.replace("-", "_"))) for name in SCENES}
WORLDS["joint-pairs"] = joint(sceneworld.two_tone, "joint-pairs", 2)
GROUPS = {
    "all": list(WORLDS),
    "gauss": ["gauss-square", "gauss-tall", "gauss-stiff", "gauss-large", "gauss-texture"],
    "plane": ["mixture", "rings"],
    "scenes": SCENES,
    "joint": [name for name in WORLDS if name.startswith("joint-")],
    "panoramas": ["panorama", "panorama-grid"],
}


@functools.cache
def world(name: str) -> World:
    """The world of a name, made once in a process; raises UserError for an unknown name.

    A world of scenes whose samples are of another representation has its name after a dot.
    """
    base, _, kind = _check(name).partition(".")
    made: Any = WORLDS[base]()
    if kind and not isinstance(made, sceneworld.SceneWorld):
        raise UserError(f"--diffrep {kind} is for the worlds of scenes, not for {base}; use {', '.join(SCENES)}")
    return made.of(kind) if kind else made


def about(name: str) -> str:
    """What the world of a name is."""
    base, _, kind = name.partition(".")
    return f"{WORLDS[base].__doc__}{f' Samples are of {kind}.' if kind else ''}"


def _check(name: str) -> str:
    if name.partition(".")[0] not in WORLDS:
        raise UserError(f"--world {name} is not known; use {', '.join(WORLDS)}, or {', '.join(GROUPS)} for several")
    return name


def expand(text: str, denoiser: str = "", diffrep: str = "") -> list[str]:
    """Expands names of worlds and groups, with commas between them, to worlds.

    Args:
        text: The names.
        denoiser: "joint" for the worlds whose denoiser sees groups of views.
        diffrep: What is sampled in place of the voxel field of the worlds of scenes.

    Raises:
        UserError: A name is unknown, or a world has no such representation.
    """
    names = [name for part in text.split(",") for name in GROUPS.get(part, [part])]
    if denoiser == "joint":
        names = [name if name.startswith("joint-") else f"joint-{name}" for name in names]
    names = [f"{_check(name)}.{diffrep}" if diffrep else _check(name) for name in names]
    for name in names:
        if "." in name:
            world(name)
    return list(dict.fromkeys(names))
