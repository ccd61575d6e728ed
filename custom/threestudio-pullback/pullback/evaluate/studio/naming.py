"""Names for pictures and for samples: the nearest of the exact objects of the studio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import world as worlds
from .world import COLORS, SHAPES, StudioObject


@dataclass(frozen=True)
class Match:
    """The exact object nearest to some renders, and how near: PSNR in dB over all the views."""

    obj: StudioObject
    psnr: float


def _palette(like: Tensor) -> Tensor:
    return torch.tensor(list(COLORS.values()), dtype=like.dtype, device=like.device)


def _colourings(buffers: Tensor, background: Tensor) -> Tensor:
    """All 36 colourings of a shape's buffers [V,3,H,W]: [36,V,3,H,W], front colour major."""
    palette, count = _palette(buffers), len(buffers)
    return torch.stack(
        [worlds.compose(buffers, f.expand(count, 3), b.expand(count, 3), background) for f in palette for b in palette]
    )


def _errors(buffers: Tensor, background: Tensor, renders: Tensor) -> Tensor:
    """Mean squares between all colourings of a shape and renders [V,3,H,W]: [36], in the order of `_colourings`.

    Pictures are linear in the colours, so the squares are a quadratic form in them: a few sums replace 36 pictures.
    """
    front, back = (2 * buffers[:, i : i + 1].double() for i in (0, 1))
    rest = 2 * ((1 - buffers[:, 2:]) * background).double() - 1 - renders.double()
    ff, bb, fb = (float((a * b).sum()) for a, b in ((front, front), (back, back), (front, back)))
    fr, br, rr = ((a * rest).sum((0, 2, 3)) for a in (front, back, rest))  # a sum per channel
    palette = _palette(rest)
    own_front, own_back = (palette.square().sum(1) * s + 2 * palette @ r for s, r in ((ff, fr), (bb, br)))
    errors = own_front[:, None] + own_back + 2 * fb * palette @ palette.T + rr.sum()
    return errors.flatten() / rest.numel()


def exact_buffers(c2w: Tensor, size: int) -> dict[str, Tensor]:
    """Every shape's `worlds.shading_buffers` from the cameras [V,4,4], for `nearest_object`."""
    return {shape: worlds.shading_buffers(shape, c2w, size) for shape in SHAPES}


def nearest_object(
    renders: Tensor, c2w: Tensor, buffers: dict[str, Tensor] | None = None, background: Tensor | None = None
) -> Match:
    """The exact object whose pictures from the same cameras are nearest in mean square, of all 216.

    Args:
        renders: [V,3,N,N] in [-1,1], seen with the world's field of view.
        c2w: camera-to-world matrices [V,4,4].
        buffers: exact_buffers(c2w, N), if the caller keeps them for many renders.
        background: What the renders have behind the object [V,3,N,N] in [0,1]; the studio's backdrop if None.
    """
    size = renders.shape[-1]
    buffers = buffers or exact_buffers(c2w, size)
    if background is None:
        background = worlds.backdrop(worlds.camera_rays(c2w, size)[1]).movedim(-1, 1)
    errors = torch.stack([_errors(buffers[shape], background, renders) for shape in SHAPES])
    best = int(errors.flatten().argmin())
    names = list(COLORS)
    obj = StudioObject(SHAPES[best // 36], names[best % 36 // 6], names[best % 6])
    return Match(obj, 10 * math.log10(4 / max(float(errors.flatten()[best]), 1e-12)))


ELEVATIONS = (0, 10, 20, 30, 40, 50, 60, 70, 80)


class PictureBank:
    """Exact pictures of every object from a grid of cameras, to name pictures from unknown cameras.

    Args:
        size: Pixels a side.
        azimuths: How many azimuths the grid has.
        elevations: Its elevations, in degrees.
    """

    def __init__(self, size: int = 32, azimuths: int = 24, elevations: Sequence[float] = ELEVATIONS) -> None:
        self.size = size
        el, az = torch.meshgrid(
            torch.tensor(elevations, dtype=torch.float32), torch.arange(azimuths) * (360 / azimuths), indexing="ij"
        )
        self.c2w = worlds.look_at(el.flatten(), az.flatten())
        self.background = worlds.backdrop(worlds.camera_rays(self.c2w, size)[1]).movedim(-1, 1)
        self.buffers = {s: worlds.shading_buffers(s, self.c2w, size, supersample=4) for s in SHAPES}

    def name(self, pictures: Tensor) -> list[StudioObject]:
        """The object of the nearest exact picture, for each of [B,3,N,N] in [-1,1]."""
        shrunk = torch.nn.functional.interpolate(pictures.float(), (self.size, self.size), mode="area").flatten(1)
        best = torch.full((len(pictures),), float("inf"))
        nearest = [StudioObject("", "", "")] * len(pictures)
        names = list(COLORS)
        for shape in SHAPES:
            bank = _colourings(self.buffers[shape], self.background)
            flat = bank.reshape(-1, shrunk.shape[1])
            error, which = (torch.cdist(shrunk, flat) ** 2).min(1)
            for i in (error < best).nonzero().flatten().tolist():
                c = int(which[i]) // len(self.c2w)
                best[i], nearest[i] = error[i], StudioObject(shape, names[c // 6], names[c % 6])
        return nearest
