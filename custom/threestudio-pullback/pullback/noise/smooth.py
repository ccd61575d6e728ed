"""Noise that is smooth over the sphere of views: near views share it, far ones less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError


def directions(views: Any) -> Tensor:
    """Unit directions [V,3] from the origin to the cameras.

    views: camera-to-world matrices [V,4,4] or [V,3,4], camera positions [V,3], or a camera batch with either as
    `camera_positions` or `c2w`. Raises UserError for anything else.
    """
    if isinstance(views, Mapping):
        views = next((views[key] for key in ("camera_positions", "c2w") if key in views), None)
    if isinstance(views, Tensor) and views.ndim == 3 and views.shape[1:] in ((4, 4), (3, 4)):
        views = views[:, :3, 3]
    if not isinstance(views, Tensor) or views.ndim != 2 or views.shape[1] != 3:
        raise UserError("noise='smooth' needs to know the cameras: views of [V,4,4] or [V,3], or a camera batch.")
    return F.normalize(views, dim=-1)


@dataclass(frozen=True)
class Smooth:
    """ε(n) = Σ_p √a_p Σ n_{i1} … n_{ip} ε_{i1…ip} for a camera in direction n, all ε_{i1…ip} white and independent.

    Unit white in every view; views an angle Δ apart correlate Σ_p a_p cos^p Δ. weights: a_0, a_1, …, not negative and
    with sum 1: (1,) is `shared`; opposite views correlate a_0 − a_1 + a_2 − …. Source [Σ_p 3^p,C,H,W].
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    kept: bool = True

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise UserError(f"Smooth takes weights of at least 0 with sum 1, not {self.weights}.")

    def draw(self, white: Any, shape: tuple[int, ...]) -> Tensor:
        return white((sum(3**p for p in range(len(self.weights))), *shape[1:]))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        if tuple(source.shape[1:]) != tuple(shape[1:]):
            raise UserError(
                f"The renders changed from {list(source.shape[1:])} to {list(shape[1:])} along the path, "
                "but noise='smooth' keeps its noise images; render at one size."
            )
        n = directions(views).to(source)
        if len(n) != shape[0]:
            raise UserError(f"{len(n)} cameras for {shape[0]} renders.")
        power, features = n.new_ones(len(n), 1), []
        for weight in self.weights:
            features.append(math.sqrt(weight) * power)
            power = (power[:, :, None] * n[:, None, :]).flatten(1)
        return torch.einsum("vk,kchw->vchw", torch.cat(features, 1), source)
