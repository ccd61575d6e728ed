"""Noise that is smooth over the sphere of views: near views share it, far ones less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..views.reading import read_positions
from .coupling import COUPLINGS, OneSource


@COUPLINGS.register("smooth")
@dataclass(frozen=True)
class Smooth(OneSource):
    """ε(n) = Σ_p √a_p Σ n_{i1} … n_{ip} ε_{i1…ip} for a camera in direction n, all ε_{i1…ip} white and independent.

    Unit white in every view; views an angle Δ apart correlate Σ_p a_p cos^p Δ. Source [Σ_p 3^p,C,H,W].

    Args:
        weights: a_0, a_1, …, at least 0, with sum 1. (1,) is `shared`; opposite views correlate a_0 − a_1 + a_2 − ….
        kept: Whether the noise is the same at all visits.

    Raises:
        UserError: Other weights; in a run, views without cameras.
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    kept: bool = True

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise UserError(f"Smooth takes weights of at least 0 with sum 1, not {self.weights}")

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Σ_p 3^p images."""
        return (sum(3**p for p in range(len(self.weights))), *shape[1:])

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The noise of the cameras' directions."""
        self.check_size(source, shape)
        n = F.normalize(read_positions(views, "noise='smooth'"), dim=-1).to(source)
        if len(n) != shape[0]:
            raise UserError(f"{len(n)} cameras for {shape[0]} renders")
        power, features = n.new_ones(len(n), 1), list[Tensor]()
        for weight in self.weights:
            features.append(math.sqrt(weight) * power)
            power = (power[:, :, None] * n[:, None, :]).flatten(1)
        return torch.einsum("vk,kchw->vchw", torch.cat(features, 1), source)
