"""Mixtures in the plane, for pictures of mode seeking against sampling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ... import priors
from ...diffreps import Pixels
from ...sampling.schedule import karras_sigmas
from . import statistics

EXTENT = 1.6
"""Pictures show [−EXTENT, EXTENT]² of the plane."""


class PlaneWorld:
    """A mixture of Gaussians in the plane, and modes that group them.

    Args:
        name: As on the command line.
        means: The means [M,2].
        weights: Their weights [M].
        group: The mode of each mean [M], 0 … K−1.
        smoothing: Standard deviation of the Gaussians.
        samples: Independent samples in one diffrep; each is a point that is its own image [1,1,2].
    """

    def __init__(self, name: str, means: Tensor, weights: Tensor, group: Tensor, smoothing: float, samples: int = 2000):
        self.name, self.means, self.group, self.smoothing, self.samples = name, means, group, smoothing, samples
        self.defaults = {"noise": "independent", "solver": "gauss-newton", "iterations": 1, "cg": 1, "damping": 0.0,
                         "levels": 40, "order": 2}  # fmt: skip
        self.weights = weights.double() / weights.sum()
        self.modes = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add(0, group, self.weights)
        self.prior = priors.MixturePrior(means[:, None, None], smoothing, self.weights)
        self.views = torch.arange(samples)

    def diffrep(self) -> Pixels:
        """All points [N,1,1,2], at the origin."""
        return Pixels(self.samples, 1, 1, 2)

    def prepare(self) -> None:
        """Nothing to make beforehand."""

    def views_of_a_path(self, visits: int) -> Any:
        """The views, which do not depend on how far a path is."""
        return self.views

    def sigmas(self, levels: int = 40, sigma_max: float = 40.0) -> Tensor:
        """Noise levels sigma_max … 0.01, 0 (ρ = 7)."""
        return karras_sigmas(levels, 0.01, sigma_max)

    def denoise(self, noisy: Tensor, sigma: float, views: Tensor) -> Tensor:
        """The exact posterior mean x̂0 [N,1,1,2]."""
        return self.prior.denoise(noisy, sigma, views)

    @torch.no_grad()
    def perfect(self, generator: torch.Generator) -> Pixels:
        """Exact samples."""
        points = self.diffrep()
        which = torch.multinomial(self.weights, self.samples, replacement=True, generator=generator)
        noise = torch.randn(self.samples, 2, generator=generator)
        points.values.copy_((self.means[which] + self.smoothing * noise)[:, None, None])
        return points

    def judge(self, diffrep: Any) -> dict[str, Any]:
        """How many points are nearest to each mean [M], and the share of points that are outside.

        Outside means farther than 4 standard deviations from every mean. A perfect sampler has exp(−8) = 0.03 % there
        at most.
        """
        distance = torch.cdist(diffrep.values.detach().reshape(-1, 2), self.means)
        near, which = distance.min(1)
        counts = torch.bincount(which, minlength=len(self.means))
        return {"counts": counts.tolist(), "outside": float((near > 4 * self.smoothing).double().mean())}

    @torch.no_grad()
    def picture(self, diffrep: Any) -> Tensor:
        """The points as a density [3,96,96] in [−1, 1], dark where there are many."""
        cell = ((diffrep.values.reshape(-1, 2) / EXTENT + 1) * 48).long()
        cell = cell[((cell >= 0) & (cell < 96)).all(1)]
        density = torch.bincount((95 - cell[:, 1]) * 96 + cell[:, 0], minlength=96 * 96).view(96, 96)
        return (1 - 2 * (density / 4).clamp(max=1)).expand(3, 96, 96)

    def verdict(self, row: dict[str, Any]) -> str:
        """A judged sample in a few words."""
        return f"{sum(count > 0 for count in row['counts'])} components covered, {row['outside']:.2%} outside"

    def histogram(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Shares of the modes found [K], and their weights [K]."""
        counts = torch.tensor([row["counts"] for row in rows]).sum(0)
        return torch.zeros_like(self.modes).index_add(0, self.group, counts.double()) / counts.sum(), self.modes

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Of the pooled points of all rows: modes and means covered, and how the shares compare."""
        counts = torch.tensor([row["counts"] for row in rows]).sum(0)
        shares, weights = self.histogram(rows)
        count = int(counts.sum())
        return {
            "samples": count,
            "outside": sum(row["outside"] for row in rows) / len(rows),
            "modes covered": f"{int((shares > 0).sum())} of {len(shares)}",
            "mode shares": " ".join(f"{share:.3f}" for share in shares),
            "modes χ² p": statistics.chi_square(shares * count, weights).p,
            "modes TV": statistics.total_variation(shares, weights),
            "components covered": f"{int((counts > 0).sum())} of {len(counts)}",
            "components TV": statistics.total_variation(counts, self.weights),
        }


def _circle(count: int, radius: float) -> Tensor:
    angle = torch.arange(count) * (2 * math.pi / count)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def mixture() -> PlaneWorld:
    """Eight Gaussians on a circle, weights in proportion to 1 … 8."""
    return PlaneWorld("mixture", _circle(8, 1.0), torch.arange(1, 9), torch.arange(8), 0.08)


def rings() -> PlaneWorld:
    """Two rings, radius 0.5 and 1.2, with 0.3 and 0.7 of the mass; each of 64 Gaussians, smooth along the ring."""
    means = torch.cat([_circle(64, 0.5), _circle(64, 1.2)])
    weights = torch.tensor([0.3, 0.7]).repeat_interleave(64)
    return PlaneWorld("rings", means, weights, torch.arange(2).repeat_interleave(64), 0.06)
