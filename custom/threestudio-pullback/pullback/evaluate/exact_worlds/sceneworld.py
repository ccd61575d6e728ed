"""Worlds of scenes: the right answer is one of M scenes, each with its weight."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import priors
from ...denoiser import Denoiser
from ...diffreps import VoxelField
from ...output.contact_sheet import grid
from ...sampling.schedule import karras_sigmas
from . import measures, representations, scenes
from .field import FixedCameraField, Lookups, pose_keys

if TYPE_CHECKING:
    from typing_extensions import Self

BLEND = 0.05
"""Renders farther than this rms from every scene, over all held-out views together, are a blend."""
SMOOTHING = 0.01
"""Standard deviation of each scene's images in the prior."""


@functools.cache
def _lookups(count: int, group: int) -> Lookups:
    return Lookups(VoxelField(), torch.cat([scenes.cameras(count, group), scenes.held_out()]))


class SceneWorld:
    """M scenes, their exact denoiser, and the judge of a representation, a voxel field as the scenes are or another.

    sample(world.diffrep(), world.views, world.denoise, world.sigmas(), generator=…) samples it.

    Args:
        name: As on the command line.
        labels: The attributes of each scene (see scenes.py).
        weights: M positive numbers, which are scaled to sum to 1; None for equal weights.

    Attributes:
        denoise: The exact posterior mean x̂0 [V,3,24,24] of (noisy, σ, poses [V,4,4]).
    """

    samples, cameras_in_all, group = 1, 32, 1

    def __init__(self, name: str, labels: list[dict[str, Any]], weights: list[float] | None = None):
        self.name, self.labels = name, labels
        self.defaults: dict[str, Any] = {"levels": 24, "sigma_max": 80.0}
        self.represented: representations.Representation | None = None
        self.weights = torch.tensor(weights or [1.0] * len(labels), dtype=torch.float64)
        self.weights = self.weights / self.weights.sum()
        self.cameras, self.held_out = scenes.cameras(self.cameras_in_all, self.group), scenes.held_out()
        self.prior = priors.SceneMixture(self.images, SMOOTHING, self.weights, self.group)
        self.denoise: Denoiser = self.prior.denoise
        self._cache: dict[tuple[float, ...], Tensor] = {}

    def of(self, kind: str) -> Self:
        """This world with samples of another representation; see `representations`."""
        self.represented = representations.find(kind)
        self.name, self.defaults = f"{self.name}.{kind}", self.defaults | self.represented.defaults
        return self

    def diffrep(self) -> Any:
        """A representation in its start state, the field without another one."""
        return self.represented.make() if self.represented else self.field()

    def field(self) -> VoxelField:
        """A field in its start state, a faint grey fog: 24³, 24×24 px."""
        return FixedCameraField(_lookups(self.cameras_in_all, self.group))

    def prepare(self) -> None:
        """Renders every scene from all cameras, which is done once in a process."""
        self.images(torch.cat([self.cameras, self.held_out]))

    def views(self, generator: torch.Generator) -> Tensor:
        """8 of the 32 cameras [8,4,4], drawn anew at every call."""
        return self.cameras[torch.randperm(len(self.cameras), generator=generator)[:8]]

    def views_of_a_path(self, visits: int) -> Any:
        """The views, which do not depend on how far a path is."""
        return self.views

    def sigmas(self, levels: int = 24, sigma_max: float = 80.0) -> Tensor:
        """Noise levels sigma_max … 0.05, 0 (ρ = 4).

        The fog of the start lies 27 from the scenes' mean, and σ = 40 does not quite hide it: with the exact flow of
        one view the histogram is off by 0.05 in total variation. From σ = 80 on it is off by less than 0.005.
        """
        return karras_sigmas(levels, 0.05, sigma_max, rho=4.0)

    def images(self, views: Tensor) -> Tensor:
        """Every scene's exact image [M,V,3,24,24] from any poses [V,4,4]; each pose is rendered once and kept."""
        keys = pose_keys(views)
        new = [i for i, key in enumerate(keys) if key not in self._cache]
        if new:
            rendered = scenes.render(self.labels, self.field(), views[new])
            self._cache.update({keys[i]: rendered[:, j] for j, i in enumerate(new)})
        return torch.stack([self._cache[key] for key in keys], 1)

    @torch.no_grad()
    def judge(self, diffrep: Any) -> dict[str, Any]:
        """The verdict on the held-out views of a representation, in plain values.

        Returns:
            scene: index of the nearest scene, all views together. rms: the distance to it. label: its attributes.
            blend: whether rms is above BLEND. per_view: index of the nearest scene in each view. consistent: whether
            `scene` is the nearest in every view, or looks the same as the nearest from there (rms BLEND at most), since
            the front of a cube does not show its back.
        """
        exact = self.images(self.held_out)
        square = (diffrep.render(self.held_out) - exact).square().flatten(2).mean(2)  # [M,V]
        rms, scene = square.mean(1).sqrt().min(0)
        per_view = square.argmin(0)
        views = torch.arange(len(per_view))
        apart = (exact[per_view, views] - exact[scene, views]).square().flatten(1).mean(1).sqrt()
        return {
            "scene": int(scene), "rms": float(rms), "label": self.labels[int(scene)], "blend": float(rms) > BLEND,
            "per_view": per_view.tolist(), "consistent": bool((apart <= BLEND).all()),
        }  # fmt: skip

    @torch.no_grad()
    def perfect(self, generator: torch.Generator) -> VoxelField:
        """A field that is one of the scenes, drawn by their weights, as from a perfect sampler."""
        field = self.field()
        label = self.labels[int(torch.multinomial(self.weights, 1, generator=generator))]
        return scenes.fill(field, label)

    @torch.no_grad()
    def picture(self, diffrep: Any) -> Tensor:
        """Four of the held-out views, a quarter turn apart, two above two [3,48,48]."""
        return grid(diffrep.render(self.held_out[:: len(self.held_out) // 4]).split(2))

    def verdict(self, row: dict[str, Any]) -> str:
        """A judged sample in a few words."""
        described = " ".join(f"{v:.2f}" if isinstance(v, float) else v for v in row["label"].values())
        return f"{described}, rms {row['rms']:.3f}{', a blend' if row['blend'] else ''}"

    def histogram(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """The share of each scene [M], where a blend counts as its nearest scene, and the weights [M]."""
        nearest = torch.tensor([row["scene"] for row in rows])
        return torch.bincount(nearest, minlength=len(self.labels)).double() / len(rows), self.weights

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The table's figures, from the verdicts of `judge` over many seeds."""
        return measures.of_scenes(rows, self.labels, self.weights)


def _colour_shares(labels: list[dict[str, Any]], *keys: str) -> list[float]:
    """Weights 0.4, 0.3, 0.2, 0.1 of the four colours, multiplied over the labels' keys."""
    shares = dict(zip(scenes.COLOURS, (0.4, 0.3, 0.2, 0.1), strict=True))
    return [math.prod(shares[label[key]] for key in keys) for label in labels]


def shapes() -> SceneWorld:
    """4 shapes × 4 colours, alike from all sides, equal weights."""
    return SceneWorld("shapes", scenes.one_coloured())


def weighted_shapes() -> SceneWorld:
    """The same, red, green, blue, yellow weighted 0.4, 0.3, 0.2, 0.1."""
    labels = scenes.one_coloured()
    return SceneWorld("weighted-shapes", labels, _colour_shares(labels, "colour"))


def two_tone() -> SceneWorld:
    """16 cubes, front colour × back colour, equal weights: a quarter is the same on both sides."""
    return SceneWorld("two-tone", scenes.two_toned())


def weighted_two_tone() -> SceneWorld:
    """The same, front and back colours each weighted 0.4, 0.3, 0.2, 0.1."""
    labels = scenes.two_toned()
    return SceneWorld("weighted-two-tone", labels, _colour_shares(labels, "front", "back"))


def badge() -> SceneWorld:
    """A cylinder with a narrow mark on one of 8 sides; quarters weighted 0.4, 0.3, 0.2, 0.1, two sides each."""
    return SceneWorld("badge", scenes.marked(), [share for share in (0.4, 0.3, 0.2, 0.1) for _ in range(2)])


def crowd() -> SceneWorld:
    """200 scenes of evenly filled sizes, hues and poses."""
    return SceneWorld("crowd", scenes.crowd())
