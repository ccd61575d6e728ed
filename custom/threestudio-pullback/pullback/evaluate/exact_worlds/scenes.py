"""Scenes that a voxel field represents exactly: solids and colours, as the field's own parameters.

A dict of labels describes a scene. Colours need no light and have no shade, so that a scene of one colour looks the
same from all sides, but for its outline.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...diffreps import VoxelField, orbit
from ..studio.world import signed_distance

SHAPES = ("sphere", "cube", "cone", "torus")
COLOURS = {"red": (0.6, -0.6, -0.6), "green": (-0.6, 0.6, -0.6), "blue": (-0.6, -0.6, 0.6), "yellow": (0.6, 0.6, -0.6)}
"""In [−1, 1]; a field that starts grey can reach them, and they differ enough to tell scenes apart."""
SIZES = {"sphere": 0.97, "cube": 1.15, "cone": 1.1, "torus": 1.1, "cylinder": 1.1}  # times the studio's solids
SHARPNESS = 60.0  # fall of the raw density per unit of distance; with LIMIT, the surface is one voxel thick
LIMIT = 6.0
ELEVATIONS = (5.0, 25.0)  # degrees: the band of all cameras
SIDES = 8
MARK = 15.0  # degrees to both sides of a mark's middle


def cameras(count: int = 32, group: int = 1) -> Tensor:
    """Poses [count,4,4] for training views: evenly all round, with elevations over the whole band.

    Args:
        count: Cameras, a multiple of `group`.
        group: Cameras of one elevation, spread evenly round: i, i + count/group, …
    """
    i = torch.arange(count, dtype=torch.float64)
    low, high = ELEVATIONS
    golden = (math.sqrt(5) - 1) / 2
    return orbit(low + (high - low) * (i % (count // group) * golden % 1), i * 360 / count).float()


def held_out(count: int = 16) -> Tensor:
    """Poses [count,4,4] for judging, none of them in `cameras()`: all round, at 10° and 20° by turns."""
    i = torch.arange(count, dtype=torch.float64)
    return orbit(torch.where(i % 2 == 0, 10.0, 20.0).double(), (i + 0.25) * 360 / count).float()


def one_coloured() -> list[dict[str, Any]]:
    """16 labels: 4 shapes × 4 colours, shape major."""
    return [{"shape": shape, "colour": colour} for shape in SHAPES for colour in COLOURS]


def two_toned() -> list[dict[str, Any]]:
    """16 labels: cubes of 4 front (x > 0) × 4 back colours, front major."""
    return [{"shape": "cube", "front": front, "back": back} for front in COLOURS for back in COLOURS]


def marked() -> list[dict[str, Any]]:
    """8 labels: a blue cylinder with one narrow yellow mark, on one of 8 sides."""
    return [{"shape": "cylinder", "side": str(side)} for side in range(SIDES)]


def crowd(per_shape: int = 50, strides: tuple[int, int] = (29, 3)) -> list[dict[str, Any]]:
    """Labels of 4 × per_shape scenes, shape by turns; size in [0.7, 1.1], hue and turn in [0, 1).

    Each attribute takes evenly spaced values, and each shape's scenes are a lattice in the three, so that no two
    scenes come near each other. turn: of the scene about the vertical, and a tilt, in shares of the circle.
    """
    labels = []
    for j in range(per_shape):
        for s, shape in enumerate(SHAPES):
            steps = (j, j * strides[0] % per_shape, j * strides[1] % per_shape)
            size, hue, turn = ((step + (s + 0.5) / 4) / per_shape for step in steps)
            labels.append({"shape": shape, "size": 0.7 + 0.4 * size, "hue": hue, "turn": turn})
    return labels


def parameters(label: dict[str, Any], resolution: int = 24) -> Tensor:
    """The scene's grid, density and colour before softplus and tanh [R³,4], x slowest."""
    axis = torch.linspace(-1, 1, resolution)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    scale = SIZES[label["shape"]] * label.get("size", 1.0)
    local = (points @ _turned(label["turn"]) if "turn" in label else points) / scale
    raw = (-signed_distance(label["shape"], local) * scale * SHARPNESS).clamp(-LIMIT, LIMIT)
    if "front" in label:
        front, back = (torch.tensor(COLOURS[label[side]]) for side in ("front", "back"))
        colour = torch.where(points[:, :1] > 0, front, back)
    elif "side" in label:
        azimuth = torch.rad2deg(torch.atan2(points[:, 1:2], points[:, :1])) - 360 / SIDES * int(label["side"])
        off = ((azimuth + 180) % 360 - 180).abs()
        colour = torch.where(off < MARK, torch.tensor(COLOURS["yellow"]), torch.tensor(COLOURS["blue"]))
    else:
        rgb = hue_colour(label["hue"]) if "hue" in label else torch.tensor(COLOURS[label["colour"]])
        colour = rgb.expand(len(points), 3)
    return torch.cat([raw[:, None], torch.atanh(colour)], 1)


def hue_colour(hue: float) -> Tensor:
    """The colour [3] of a hue in [0, 1): 0 red, 1/3 green, 2/3 blue, as saturated as COLOURS."""
    distance = torch.tensor([(hue - k / 3 + 0.5) % 1 - 0.5 for k in range(3)]).abs()
    return 0.6 * (3 - 12 * distance).clamp(-1, 1).float()


def _turned(turn: float) -> Tensor:
    """Rotation [3,3] about the vertical by `turn` of a circle, after a tilt by as much of a sixth of one."""
    yaw, tilt = 2 * math.pi * turn, math.pi / 3 * turn
    about = torch.tensor([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    lean = torch.tensor([[math.cos(tilt), 0, math.sin(tilt)], [0, 1, 0], [-math.sin(tilt), 0, math.cos(tilt)]])
    return about @ lean


@torch.no_grad()
def fill(field: VoxelField, label: dict[str, Any]) -> VoxelField:
    """Gives a field the parameters of a scene; returns the field."""
    density, colour = parameters(label, field.resolution).split([1, 3], 1)
    field.density.copy_(density)
    field.colour.copy_(colour)
    return field


@torch.no_grad()
def render(labels: list[dict[str, Any]], field: VoxelField, poses: Tensor) -> Tensor:
    """Exact images [M,V,3,H,W] of the scenes from poses [V,4,4].

    Args:
        labels: The scenes.
        field: Renders them, with its own sizes; its parameters are the same afterwards.
        poses: The cameras.
    """
    before = {name: value.clone() for name, value in field.state_dict().items()}
    images = []
    for label in labels:
        images.append(fill(field, label).render(poses))
    field.load_state_dict(before)
    return torch.stack(images)
