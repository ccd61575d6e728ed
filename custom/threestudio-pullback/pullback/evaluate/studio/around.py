"""The studio seen all round: objects that no single picture tells, and pictures of groups of views.

Beside the one- and two-coloured objects there are objects with four sides of different colours, and one-coloured ones
with a mark on one side. Sides are front (+x), left (+y), back and right. The backdrop is the studio's or plain grey.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...views.groups import Group
from . import captions
from . import world as worlds
from .world import COLORS, SHAPES, StudioObject

SIDES = ("front", "left", "back", "right")
MARK_RADIUS = 0.22
MARK_DEPTH = 0.15  # the mark is on the solid's own side only
GREY = 0.68
PARTIAL = 0.4  # of the captions of one-coloured objects, before those that the studio's leave open anyway
PATCHES = 16  # eight sectors of 45°, first without their marks, then their marks


@dataclass(frozen=True)
class FourSided:
    """An object with four differently coloured sides."""

    shape: str
    front: str
    left: str
    back: str
    right: str

    @property
    def caption(self) -> str:
        """The full caption; the sides are named in their order round the object, the left one first."""
        return f"a {self.shape} {self.colouring}"

    @property
    def colouring(self) -> str:
        """The caption without the shape."""
        return f"with a {self.front} front, a {self.left} side, a {self.back} back and a {self.right} side"


@dataclass(frozen=True)
class Marked:
    """A one-coloured object with a round mark of another colour on one side, one of SIDES."""

    shape: str
    colour: str
    mark: str
    side: str

    @property
    def caption(self) -> str:
        """The caption; of a mark on the left or right it says that it is on a side."""
        return f"a {self.colour} {self.shape} with a {self.mark} {self.side_word} mark"

    @property
    def side_word(self) -> str:
        """What a caption calls the side."""
        return self.side if self.side in ("front", "back") else "side"


AnyObject = StudioObject | FourSided | Marked


def patch_colours(obj: AnyObject) -> Tensor:
    """The colours of an object's patches, [PATCHES,3] in [0,1]."""
    if isinstance(obj, FourSided):
        own = [(obj.front, obj.left, obj.back, obj.right)[(k + 1) // 2 % 4] for k in range(8)]
    elif isinstance(obj, Marked):
        own = [obj.colour] * 8
    else:
        own = [obj.front if k in (0, 1, 6, 7) else obj.back for k in range(8)]
    marks = list(own)
    if isinstance(obj, Marked):
        middle = 2 * SIDES.index(obj.side)
        marks[middle] = marks[middle - 1] = obj.mark
    return torch.tensor([COLORS[name] for name in own + marks])


def patches(shape: str, c2w: Tensor, size: int = 64, supersample: int = 2) -> tuple[Tensor, Tensor]:
    """What every ray of some pictures meets; serves all colourings of a shape (see `paint`).

    Args:
        shape: One of SHAPES.
        c2w: Camera-to-world matrices [V,4,4].
        size: Pixels a side.
        supersample: Rays of a pixel, along each side.

    Returns:
        The patch, or PATCHES for the backdrop, and the light's share of its colour; [V,n,n] with n = size·supersample.
    """
    n = size * supersample
    patch, shade = _label(worlds.seen(shape, c2w, n))
    return patch.reshape(-1, n, n), shade.reshape(-1, n, n)


def group_patches(shape: str, elevation: Tensor, azimuth: Tensor, size: int = 64) -> tuple[Tensor, Tensor]:
    """`patches` of `group_of`'s G·4 views; a quarter of the work, since a quarter turn leaves every solid as it is."""
    n = 2 * size
    seen, found = worlds.seen(shape, worlds.look_at(elevation, azimuth), n), []
    for _ in SIDES:
        found.append([x.reshape(len(azimuth), n, n) for x in _label(seen)])
        seen = replace(seen, points=_quarter_turn(seen.points), normals=_quarter_turn(seen.normals))
    patch, shade = (torch.stack(parts, 1).flatten(0, 1) for parts in zip(*found, strict=True))
    return patch, shade


def _quarter_turn(vectors: Tensor) -> Tensor:
    return torch.stack([-vectors[:, 1], vectors[:, 0], vectors[:, 2]], -1)


def _label(seen: worlds.Surface) -> tuple[Tensor, Tensor]:
    x, y, z = seen.points.unbind(-1)
    sector = torch.atan2(y, x).div(torch.pi / 4).floor().long() % 8
    ahead, aside = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    marked = (aside.square() + z.square() < MARK_RADIUS**2) & (ahead > MARK_DEPTH)
    patch = torch.full((len(seen.near),), PATCHES)
    shade = torch.ones(len(seen.near)).to(z)
    patch[seen.near] = torch.where(seen.hit, torch.where(marked, sector + 8, sector), PATCHES)
    shade[seen.near] = torch.where(seen.hit, seen.shade, 1)
    return patch, shade


def paint(patch: Tensor, shade: Tensor, colours: Tensor, background: Tensor) -> Tensor:
    """Pictures [V,3,H,W] in [-1,1] from `patches`, their colours [PATCHES,3] and a backdrop [V,3,H,W] in [0,1]."""
    supersample = patch.shape[-1] // background.shape[-1]
    table = torch.cat([colours, torch.zeros(1, 3).to(colours)]).to(shade)
    solid = F.avg_pool2d((table[patch] * shade[..., None]).movedim(-1, 1), supersample)
    empty = F.avg_pool2d((patch == PATCHES).to(shade)[:, None], supersample)
    return 2 * (solid + empty * background) - 1


def backdrop(c2w: Tensor, size: int, plain: bool) -> Tensor:
    """The backdrop [V,3,size,size] in [0,1] behind poses [V,4,4]."""
    if plain:
        return torch.full((len(c2w), 3, size, size), GREY).to(c2w)
    return worlds.backdrop(worlds.camera_rays(c2w, size)[1]).movedim(-1, 1)


def render(obj: AnyObject, c2w: Tensor, size: int = 64, plain: bool = False, supersample: int = 2) -> Tensor:
    """Exact pictures of an object: camera-to-world [V,4,4] → [V,3,size,size] in [-1,1]."""
    return paint(*patches(obj.shape, c2w, size, supersample), patch_colours(obj), backdrop(c2w, size, plain))


def group_of(elevation: Tensor, azimuth: Tensor) -> Tensor:
    """Poses [G·4,4,4] of G groups of four that start at elevation and azimuth [G] in degrees."""
    return worlds.look_at(*Group().spread(elevation, azimuth))


def random_object(rng: random.Random, shape: str | None = None) -> AnyObject:
    """Six objects of ten are those of `captions.random_object`, two have four sides, two a mark."""
    shape = shape or rng.choice(SHAPES)
    u = rng.random()
    if u < 0.6:
        plain = captions.random_object(rng)
        return StudioObject(shape, plain.front, plain.back)
    colours = rng.sample(list(COLORS), 4)
    if u < 0.8:
        return FourSided(shape, *colours)
    return Marked(shape, colours[0], colours[1], rng.choice(SIDES))


def random_caption(obj: AnyObject, rng: random.Random) -> str:
    """A caption that is true of `obj`, without a view.

    One- and two-coloured objects have the captions of the studio, but those of one colour leave it or the shape open
    oftener: a model that sees four views has to learn what they then have in common. Those of four sides name them all,
    nine in ten with the shape. Of marks, half the captions say where they are.
    """
    if isinstance(obj, StudioObject):
        if obj.front == obj.back and rng.random() < PARTIAL:
            return rng.choice(captions.PREFIXES) + rng.choice((f"a {obj.shape}", f"a {obj.front} object", "an object"))
        return captions.random_caption(obj, None, rng)
    if isinstance(obj, FourSided):
        text = obj.caption if rng.random() < 0.9 else f"an object {obj.colouring}"
        return rng.choice(captions.PREFIXES[:-1]) + text  # with the last one it is too long for 24 tokens
    text = obj.caption if rng.random() < 0.5 else f"a {obj.colour} {obj.shape} with a {obj.mark} mark"
    return rng.choice(captions.PREFIXES) + text
