"""Worlds of scenes whose denoiser sees groups of views at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...sampling.schedule import karras_sigmas
from .sceneworld import SceneWorld

GOLDEN = (5**0.5 - 1) / 2  # of all steps round a circle, the one whose points lie most evenly however many there are


class JointMixture:
    """A mixture's denoiser, as a `JointDenoiser`.

    Args:
        denoise: Of groups of views.
        group_size: Views of a group.
    """

    def __init__(self, denoise: Callable[[Tensor, float, Any], Tensor], group_size: int) -> None:
        self._denoise, self.group_size = denoise, group_size

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """x̂0 [V,C,H,W] of groups, one after the other."""
        return self._denoise(noisy, sigma, views)


class WideningGroups:
    """Views of one path: one group of cameras that stays, then several that spread.

    As long as there is one group, the path is that of a long image, whose law is exact; fresh azimuths come once that
    image is decided, for what lies between its cameras. Their azimuths are a golden section apart from a random one on:
    each is as likely as any other, and a few visits leave no gap. See docs/theory.md, section 4.

    Args:
        cameras: Poses [K,4,4] of one circle, evenly round.
        group: Views of a group.
        begin: The visit from which on there are several groups, which spread.
        end: The visit from which on a first camera is anywhere within one side of the object, a group-th of the circle.
            Places then still see their own sides.
    """

    def __init__(self, cameras: Tensor, group: int, begin: float, end: float) -> None:
        self.cameras, self.group, self.begin, self.end = cameras, group, begin, end
        self.visit, self.base, self.turn = 0, 0, 0.0

    def __call__(self, generator: torch.Generator) -> Tensor:
        """One group of cameras [group,4,4], or 8 cameras [8,4,4], group by group."""
        side = len(self.cameras) // self.group
        if self.visit == 0:
            self.base = int(torch.randint(side, (), generator=generator))
            self.turn = float(torch.rand((), generator=generator))
        width = min(1.0, max(0.0, (self.visit - self.begin) / (self.end - self.begin)))
        groups = 1 if self.visit < self.begin else 8 // self.group
        turns = groups * self.visit + torch.arange(groups)[:, None]
        part = (self.turn + GOLDEN * turns) % 1 - 0.5
        self.visit += 1
        first = self.base + (width * side * part).round().long()
        return self.cameras[(first + torch.arange(self.group) * side).flatten() % len(self.cameras)]


class JointSceneWorld(SceneWorld):
    """A world of scenes with groups of cameras spread evenly round, at a random azimuth at every visit.

    A group's first camera is always on the same side, so that a place in the group sees its own side of the object:
    votes of groups then agree more, see docs/theory.md. Its azimuth is one of a few, so that exact images can be kept.
    One setting serves all such worlds: 22 levels, noise by slot, one pass, and for the pulled-back sampler
    `WideningGroups`.

    Args:
        base: The world with single views.
        group: Views of a group.
    """

    cameras_in_all = 64

    def __init__(self, base: SceneWorld, group: int = 4) -> None:
        self.group = group
        super().__init__(f"joint-{base.name}", base.labels, base.weights.tolist())
        self.defaults = {"levels": 22, "sigma_max": 80.0, "noise": "slot", "lr": 0.15, "steps": 5}
        self.denoise = JointMixture(self.prior.denoise, group)

    def views(self, generator: torch.Generator) -> Tensor:
        """8 cameras [8,4,4], group by group."""
        side = len(self.cameras) // self.group
        first = torch.randint(side, (8 // self.group, 1), generator=generator)
        return self.cameras[(first + torch.arange(self.group) * side).flatten()]

    def sigmas(self, levels: int = 22, sigma_max: float = 80.0) -> Tensor:
        """Noise levels sigma_max … 0.05, 0 (ρ = 5)."""
        return karras_sigmas(levels, 0.05, sigma_max, rho=5.0)

    def views_of_a_path(self, visits: int) -> WideningGroups:
        """The views of a path of so many visits: one group until the scene is decided, at σ = 2, then two that spread.

        The field lags behind the denoiser. Where two groups vote before that, it becomes the mean of what they want,
        and then the scene that is nearest to this mean: yellow in place of red or green.
        """
        return WideningGroups(self.cameras, self.group, 14 / 22 * visits, 16 / 22 * visits)


def joint(make: Callable[[], SceneWorld], name: str = "", group: int = 4) -> Callable[[], SceneWorld]:
    """The maker of the joint world of a world's maker."""

    def world() -> SceneWorld:
        made = JointSceneWorld(make(), group)
        made.name = name or made.name
        return made

    world.__doc__ = f"{make.__doc__} The denoiser sees {group} views at once."
    return world
