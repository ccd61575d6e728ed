"""Samples along rays, their weights and sums: dense in PyTorch on any device, packed by nerfacc on CUDA.

`DenseSamples` is the reference of the fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Density = Callable[[Tensor], Tensor]
OPAQUE, HIDDEN = 0.01, 1e-4
"""Samples of a lower opacity, or that less light reaches, are left out where a renderer prunes them."""


def ray_box(origins: Tensor, directions: Tensor, bbox: Tensor, near: float, far: float) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave a box, in units of the direction's length.

    Args:
        origins: [R, 3].
        directions: [R, 3].
        bbox: [2, 3], lower and upper corner.
        near: where the part of a ray that counts begins.
        far: where it ends.

    Returns:
        Entry and exit [R]; a ray that misses the box has its exit at or before its entry.
    """
    tiny = torch.finfo(directions.dtype).tiny
    slope = 1 / torch.where(directions == 0, tiny, directions)
    a, b = (bbox[0] - origins) * slope, (bbox[1] - origins) * slope
    return torch.minimum(a, b).amax(-1).clamp(min=near), torch.maximum(a, b).amin(-1).clamp(max=far)


class DenseSamples:
    """The same number of equal intervals on every ray that meets the box, one sample in each.

    t, dt, ray_indices [N] are the distances of the samples, the lengths of their intervals and their rays. `rows` is
    None, or which of the M·S samples are left after `keep`.
    """

    def __init__(self, n_rays: int, rays: Tensor, t: Tensor, step: Tensor) -> None:
        """Samples t [M, S], of intervals of the lengths step [M], on the rays [M] of n_rays rays."""
        self.n_rays, self.rays, self.shape = n_rays, rays, t.shape
        self.rows: Tensor | None = None
        self.t, self.dt = t.reshape(-1), step[:, None].expand(t.shape).reshape(-1)
        self.ray_indices = rays[:, None].expand(t.shape).reshape(-1)

    @classmethod
    def march(
        cls, origins: Tensor, directions: Tensor, bbox: Tensor, near: float, far: float, n: int, offset: Tensor
    ) -> DenseSamples:
        """The samples between the rays' entries and exits.

        Args:
            origins: [R, 3].
            directions: [R, 3], unit vectors.
            bbox: [2, 3], lower and upper corner.
            near: least distance.
            far: largest distance.
            n: samples of a ray.
            offset: [R], in [0, 1): where the samples of a ray lie in their intervals.
        """
        entry, leave = ray_box(origins, directions, bbox, near, far)
        rays = (leave > entry).nonzero()[:, 0]
        if not len(rays):  # one ray with empty intervals, so that everything after has its shapes
            rays, leave = rays.new_zeros(1), entry
        entry, step = entry[rays], (leave - entry)[rays] / n
        at = torch.arange(n, dtype=entry.dtype, device=entry.device).expand(len(rays), n)
        return cls(len(origins), rays, entry[:, None] + (at + offset[rays, None]) * step[:, None], step)

    def keep(self, mask: Tensor) -> None:
        """Drops the samples where mask [N] is False; they count as empty."""
        rows = mask.nonzero()[:, 0]
        if len(rows) == len(mask):
            return
        if not len(rows):  # one empty interval stays, so that everything after has its shapes
            rows, self.dt = rows.new_zeros(1), torch.zeros_like(self.dt)
        self.rows = rows if self.rows is None else self.rows[rows]
        self.t, self.dt, self.ray_indices = self.t[rows], self.dt[rows], self.ray_indices[rows]

    def _dense(self, values: Tensor) -> Tensor:
        if self.rows is not None:
            values = values.new_zeros(self.shape.numel()).index_copy(0, self.rows, values)
        return values.view(self.shape)

    def transmittance(self, density: Tensor) -> tuple[Tensor, Tensor]:
        """What light reaches each sample, and each sample's opacity, [N] both, from density [N].

        T_i = exp(−Σ_{j<i} σ_j δ_j), α_i = 1 − exp(−σ_i δ_i) (Max 1995).
        """
        depth = self._dense(density * self.dt)
        before = torch.exp(depth - depth.cumsum(1))
        alpha = -torch.expm1(-depth)
        both = before.reshape(-1), alpha.reshape(-1)
        return both if self.rows is None else (both[0][self.rows], both[1][self.rows])

    def spread(self, values: Tensor) -> Tensor:
        """Values [n_rays, C] of the rays at their samples, [N, C]."""
        if self.rows is not None:
            return values[self.ray_indices]
        values = values if len(self.rays) == self.n_rays else values[self.rays]
        return values[:, None].expand(*self.shape, -1).reshape(len(self.t), -1)

    def weights(self, density: Tensor) -> Tensor:
        """Contribution [N] of each sample to its ray's colour."""
        reaching, alpha = self.transmittance(density)
        return reaching * alpha

    def sum(self, values: Tensor) -> Tensor:
        """Sums [n_rays, C] of values [N, C] along each ray."""
        if self.rows is not None:
            return values.new_zeros(self.n_rays, values.shape[1]).index_add(0, self.ray_indices, values)
        sums = values.view(*self.shape, -1).sum(1)
        if len(self.rays) == self.n_rays:
            return sums
        return values.new_zeros(self.n_rays, values.shape[1]).index_copy(0, self.rays, sums)


@dataclass
class PackedSamples:
    """nerfacc's samples on CUDA: on each ray as many as there are steps in occupied cells."""

    n_rays: int
    ray_indices: Tensor
    starts: Tensor
    ends: Tensor

    def __post_init__(self) -> None:
        if not len(self.ray_indices):  # one empty interval, so that everything after has its shapes
            self.ray_indices = self.ray_indices.new_zeros(1)
            self.starts = self.ends = self.starts.new_zeros(1)
        self.ray_indices = self.ray_indices.long()
        self.t, self.dt = (self.starts + self.ends) / 2, self.ends - self.starts

    @classmethod
    def march(
        cls, origins: Tensor, directions: Tensor, estimator: Any, density: Density | None, **settings: Any
    ) -> PackedSamples:
        """The samples in occupied cells; with a density without those that are transparent or hidden.

        Args:
            origins: [R, 3].
            directions: [R, 3], unit vectors.
            estimator: nerfacc's occupancy grid.
            density: [N, 3] → [N, 1].
            settings: of the estimator: near_plane, far_plane, render_step_size, stratified.
        """

        def sigma(starts: Tensor, ends: Tensor, rays: Tensor) -> Tensor:
            assert density is not None
            return density(origins[rays] + (starts + ends)[:, None] / 2 * directions[rays])[:, 0]

        limits = (
            {"sigma_fn": sigma, "alpha_thre": OPAQUE, "early_stop_eps": HIDDEN}
            if density
            else {"alpha_thre": 0.0, "early_stop_eps": 0.0}
        )
        return cls(len(origins), *estimator.sampling(origins, directions, **limits, **settings))

    def spread(self, values: Tensor) -> Tensor:
        """Values [n_rays, C] of the rays at their samples, [N, C]."""
        return values[self.ray_indices]

    def weights(self, density: Tensor) -> Tensor:
        """Contribution [N] of each sample to its ray's colour."""
        from nerfacc import render_weight_from_density

        return render_weight_from_density(
            self.starts, self.ends, density, ray_indices=self.ray_indices, n_rays=self.n_rays
        )[0]

    def sum(self, values: Tensor) -> Tensor:
        """Sums [n_rays, C] of values [N, C] along each ray."""
        return values.new_zeros(self.n_rays, values.shape[1]).index_add(0, self.ray_indices, values)
