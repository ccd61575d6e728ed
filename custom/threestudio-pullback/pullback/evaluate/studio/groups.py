"""Groups of views that a model pictures together: sampled, named, and counted for the model's card."""

from __future__ import annotations

import functools
import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import models
from ...output.contact_sheet import grid
from ...sampling import schedule
from . import around
from .around import PATCHES, SIDES, AnyObject, FourSided, Marked
from .ddim import ddim
from .world import COLORS, SHAPES, StudioObject, all_objects

NEAR = 0.08
"""Rms by which a view's own nearest picture may differ from the group's object in that view. A mark, or a side of
another colour, makes 0.15 and more where it is seen whole; what is below is a sliver at an edge."""
ELEVATIONS = (5.0, 20.0, 35.0, 50.0)


SHEET = [
    StudioObject("cube", "red", "red"), StudioObject("torus", "blue", "yellow"),
    Marked("sphere", "cyan", "red", "front"), FourSided("cone", "red", "green", "blue", "yellow"),
    Marked("diamond", "green", "purple", "left"), FourSided("cube", "cyan", "purple", "yellow", "red"),
]  # fmt: skip


@dataclass(frozen=True)
class GroupMatch:
    """The exact object nearest to a group of pictures.

    Attributes:
        obj: The object.
        psnr: How near, in dB over all views.
        one: Whether each view by itself is nearest to a picture of the same object, so that all are of one.
    """

    obj: AnyObject
    psnr: float
    one: bool


def every_object(shape: str) -> list[AnyObject]:
    """All 516 objects of a shape."""
    names = list(COLORS)
    plain = [obj for obj in all_objects() if obj.shape == shape]
    sided = [FourSided(shape, *colours) for colours in itertools.permutations(names, 4)]
    marked = [Marked(shape, c, m, side) for c, m in itertools.permutations(names, 2) for side in SIDES]
    return [*plain, *sided, *marked]


class GroupBank:
    """The exact pictures of all objects from the cameras of one group, as sums that give all distances at once.

    Pictures are linear in the colours of the patches, so the mean square between a picture and an object's is a
    quadratic form in them.

    Args:
        c2w: Poses [V,4,4].
        size: Pixels a side.
    """

    def __init__(self, c2w: Tensor, size: int = 64) -> None:
        self.backdrops = [around.backdrop(c2w, size, plain) for plain in (False, True)]
        self.objects = {shape: every_object(shape) for shape in SHAPES}
        self.colours = {shape: torch.stack([around.patch_colours(o) for o in self.objects[shape]]) for shape in SHAPES}
        self.maps = {shape: self._maps(shape, c2w, size) for shape in SHAPES}
        self.grams = {shape: maps @ maps.mT for shape, maps in self.maps.items()}  # [V,PATCHES,PATCHES]

    def _maps(self, shape: str, c2w: Tensor, size: int) -> Tensor:
        """Shading × coverage of each patch, and the share of the backdrop last: [V,PATCHES+1,size²]."""
        patch, shade = around.patches(shape, c2w, size)
        whole = F.one_hot(patch, PATCHES + 1) * shade[..., None]
        return F.avg_pool2d(whole.movedim(-1, 1), patch.shape[-1] // size).flatten(2)

    def squares(self, pictures: Tensor, shape: str, backdrop: Tensor) -> Tensor:
        """Mean squares [516,V] between pictures [V,3,N,N] in [-1,1] and those of every object of a shape."""
        maps, gram = self.maps[shape], self.grams[shape][:, :PATCHES, :PATCHES]
        rest = (pictures / 2 + 0.5 - maps[:, PATCHES].unflatten(-1, pictures.shape[-2:])[:, None] * backdrop).flatten(2)
        colours = self.colours[shape]
        cross = torch.einsum("vkp,vcp->vkc", maps[:, :PATCHES], rest)
        own = torch.einsum("okc,vkl,olc->ov", colours, gram, colours)
        mixed = torch.einsum("okc,vkc->ov", colours, cross)
        return 4 * (own - 2 * mixed + rest.square().sum((1, 2))) / rest[0].numel()

    def name(self, pictures: Tensor) -> GroupMatch:
        """The object nearest to a group of pictures [V,3,N,N], before either backdrop."""
        best: tuple[float, str, int, Tensor] | None = None
        for backdrop in self.backdrops:
            tables = {shape: self.squares(pictures, shape, backdrop) for shape in SHAPES}
            for shape, squares in tables.items():
                total = squares.mean(1)
                index = int(total.argmin())
                if best is None or float(total[index]) < best[0]:
                    best = float(total[index]), shape, index, backdrop
                    own = [min((float(t[:, v].min()), s, int(t[:, v].argmin())) for s, t in tables.items())
                           for v in range(len(pictures))]  # fmt: skip
        assert best is not None
        error, shape, index, backdrop = best
        views = [self._picture(s, i, v, backdrop) - self._picture(shape, index, v, backdrop)
                 for v, (_, s, i) in enumerate(own)]  # fmt: skip
        apart = max(float(view.square().mean().sqrt()) for view in views)
        return GroupMatch(self.objects[shape][index], 10 * math.log10(4 / max(error, 1e-12)), apart < NEAR)

    def _picture(self, shape: str, index: int, view: int, backdrop: Tensor) -> Tensor:
        maps = self.maps[shape][view]
        return 2 * (self.colours[shape][index].T @ maps[:PATCHES] + maps[PATCHES] * backdrop[view].flatten(1))


class Cameras:
    """Four groups of cameras, one for each elevation, and their banks for pictures of `size` pixels a side."""

    def __init__(self, size: int) -> None:
        elevation, azimuth = torch.tensor(ELEVATIONS), torch.tensor([12.0, 140.0, 265.0, 50.0])
        self.c2w = around.group_of(elevation, azimuth).unflatten(0, (len(ELEVATIONS), -1))
        self.size = size

    @functools.cached_property
    def banks(self) -> list[GroupBank]:
        """The bank of each group."""
        return [GroupBank(c2w, self.size) for c2w in self.c2w]

    def of(self, count: int) -> Tensor:
        """The poses [count·V,4,4] of groups that take the cameras in turn."""
        return self.c2w[torch.arange(count) % len(self.c2w)].flatten(0, 1)

    def name(self, groups: Tensor) -> list[GroupMatch]:
        """The objects of groups [G,V,3,N,N] that have the cameras in turn."""
        return [self.banks[i % len(self.banks)].name(group) for i, group in enumerate(groups)]


@torch.no_grad()
def sample(
    model: Any, prompts: Sequence[str], cameras: Cameras, scale: float, seed: int, levels: int = 30, batch: int = 16
) -> Tensor:
    """Samples a group of pictures for each of G prompts, by DDIM: [G,V,3,H,W]."""
    generator = torch.Generator().manual_seed(seed)
    sigmas = schedule.karras_sigmas(levels, 0.05, model.sigma_max, rho=5.0).tolist()
    poses = cameras.of(len(prompts)).unflatten(0, (len(prompts), -1))
    groups = []
    for start in range(0, len(prompts), batch):
        some = list(prompts[start : start + batch])
        cond = model.encode_prompt(some).repeat_interleave(model.group_size, 0)
        uncond = model.encode_prompt([""])
        denoise = models.GuidedDenoiser(model, lambda views, c=cond, u=uncond: (c, u), scale)
        shape = (len(cond), model.latent_channels, model.sample_size, model.sample_size)
        noisy = sigmas[0] * torch.randn(shape, generator=generator)
        latents = ddim(denoise, noisy, sigmas, poses[start : start + batch].flatten(0, 1))
        groups.append(model.decode(latents).unflatten(0, (len(some), -1)))
    return torch.cat(groups)


class GroupsOfViews:
    """The figures of a model of several views, with the rows of `model.SingleViews`.

    Args:
        model: The model.
        seed: Of all samples.
    """

    free_captions = (
        ("a cube", "color"), ("a cone", "color"), ("a blue object", "shape"), ("a red cube with a yellow mark", "side"),
    )  # fmt: skip
    samples = 120

    def __init__(self, model: Any, seed: int) -> None:
        self.model, self.seed, self.cameras = model, seed, Cameras(model.image_size)

    def full(self, count: int, scale: float) -> dict[str, Any]:
        """Among `count` groups of full captions, the share of the caption's object, and the share of one object."""
        rng = random.Random(self.seed)
        objects = [around.random_object(rng) for _ in range(count)]
        found = self.cameras.name(sample(self.model, [o.caption for o in objects], self.cameras, scale, self.seed))
        pairs = list(zip(found, objects, strict=True))
        kinds = {"one or two colours": StudioObject, "four sides": FourSided, "a mark": Marked}
        rows = {name: [agrees(m.obj, o) for m, o in pairs if isinstance(o, kind)] for name, kind in kinds.items()}
        return {
            "samples": count, "guidance_scale": scale, "right": sum(agrees(m.obj, o) for m, o in pairs) / count,
            "one_object": sum(m.one for m in found) / count,
            "shape_right": sum(m.obj.shape == o.shape for m, o in pairs) / count,
            "right_by_kind": {name: sum(right) / len(right) for name, right in rows.items() if right},
            "psnr_db_median": statistics.median(m.psnr for m in found),
            "wrong": [f"{o.caption} -> {m.obj.caption}" for m, o in pairs if not agrees(m.obj, o)],
        }  # fmt: skip

    def free(self, prompt: str, free: str) -> dict[str, Any]:
        """How often each value of what a prompt leaves open comes up, without guidance; all should equally often."""
        from scipy.stats import chisquare

        count = self.samples
        found = self.cameras.name(sample(self.model, [prompt] * count, self.cameras, 1.0, self.seed))
        values = {"color": tuple(COLORS), "shape": SHAPES, "side": SIDES}[free]
        counter = Counter(_value(match.obj, free) for match in found)
        counts = [counter[value] for value in values]
        return {
            "prompt": prompt, "samples": count, "counts": dict(zip(values, counts, strict=True)),
            "expected": count / len(values), "others": count - sum(counts),
            "one_object": sum(match.one for match in found) / count,
            "chi_square_p": chisquare(counts).pvalue if sum(counts) else math.nan,
        }  # fmt: skip

    def sheet(self) -> Tensor:
        """A group a row: [3,H,W]."""
        groups = sample(self.model, [obj.caption for obj in SHEET], self.cameras, 2.5, self.seed)
        return grid(list(groups))


def agrees(found: AnyObject, asked: AnyObject) -> bool:
    """Whether an object is the one asked for; a mark on either side is a mark on "a side"."""
    if isinstance(found, Marked) and isinstance(asked, Marked):
        return found.caption == asked.caption
    return found == asked


def _value(obj: AnyObject, free: str) -> str | None:
    """The value of what a caption leaves open; None for an object that it does not mean."""
    if free == "side":
        return obj.side if isinstance(obj, Marked) else None
    if not isinstance(obj, StudioObject) or obj.front != obj.back:
        return None
    return obj.front if free == "color" else obj.shape
