"""How much light from outside reaches each point of a density field: what a camera that looks from there can see."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

# Where the light comes from: the horizon and above, as the cameras of text to 3D do, which never look up from below.
_WAYS = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step) and step[2] <= 0]


def light_from_outside(density: Tensor, spacing: tuple[float, float, float]) -> Tensor:
    """The part of the light that reaches each vertex of a grid, by the best of 17 ways from outside.

    A way is a straight line to a neighbour of a vertex; light comes level or from above. Along it, the transmittance is
    exp(−∫ density), by the trapezium rule. A space inside an object, and one that can be seen from below alone, lies in
    the dark.

    Args:
        density: [X, Y, Z], z up.
        spacing: Between neighbours, along each axis, in the unit in which the density counts.

    Returns:
        [X, Y, Z] in [0, 1].
    """
    least = torch.full_like(density, torch.inf)  # the optical depth
    for way in _WAYS:
        axis = next(i for i, n in enumerate(way) if n)
        half = 0.5 * sum((n * d) ** 2 for n, d in zip(way, spacing, strict=True)) ** 0.5
        layers, found = density.movedim(axis, 0), least.movedim(axis, 0)
        rest = [n for i, n in enumerate(way) if i != axis]
        depth = before = torch.zeros_like(layers[0])
        for i in range(len(layers)) if way[axis] > 0 else range(len(layers) - 1, -1, -1):
            depth = _moved(depth + half * before, rest) + half * layers[i]
            before = layers[i]
            torch.minimum(found[i], depth, out=found[i])
    return least.neg_().exp_()


def _moved(layer: Tensor, by: list[int]) -> Tensor:
    """A layer moved by −1, 0 or 1 along each axis; what comes in from outside is 0."""
    for axis, n in enumerate(by):
        if n:
            layer = layer.roll(n, axis)
            layer.select(axis, 0 if n > 0 else -1).zero_()
    return layer


def close_cracks(light: Tensor) -> Tensor:
    """Darkens, in place, what is lit through cracks and holes of less than three vertices across.

    The least, then the greatest value among the neighbours (a morphological opening by a cube of three vertices): flat
    faces stay where they are.
    """
    for sign, beyond in ((-1, -1.0), (1, 0.0)):  # the greatest of the negated values is the least; outside it is light
        light *= sign
        before = outside = torch.full_like(light[0], beyond)
        for i in range(len(light)):
            layer = light[i].clone()
            around = torch.maximum(torch.maximum(before, layer), light[i + 1] if i + 1 < len(light) else outside)
            light[i] = F.max_pool2d(F.pad(around[None], (1, 1, 1, 1), value=beyond), 3, 1)[0]
            before = layer
        light *= sign
    return light
