"""Encodings of positions and directions: multiresolution hash grid, frequencies, spherical harmonics.

They are plain PyTorch and know no framework, so that they can also stand in for tiny-cuda-nn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .interpolation import corner_weights, gather

_PRIMES = (1, 2654435761, 805459861, 3674653429)  # Müller et al. 2022, equation 4


class HashGrid(nn.Module):
    """Multiresolution hash encoding (Müller, Evans, Schied, Keller 2022).

    Level l is a grid of N_l = ⌊base_resolution · per_level_scale^l⌋ cells a side, whose vertices carry
    n_features_per_level numbers, interpolated linearly. A level with more than 2^log2_hashmap_size vertices
    keeps its features in a hash table of that size, a smaller one keeps them all.

    It is differentiable any number of times in the features and, inside a cell, in the position.
    """

    def __init__(
        self,
        n_input_dims: int = 3,
        n_levels: int = 16,
        n_features_per_level: int = 2,
        log2_hashmap_size: int = 19,
        base_resolution: int = 16,
        per_level_scale: float = 2.0,
    ) -> None:
        super().__init__()
        self.n_input_dims, self.n_features = n_input_dims, n_features_per_level
        self.n_output_dims = n_levels * n_features_per_level
        self.table_size = 2**log2_hashmap_size
        # the epsilon keeps powers that are whole in exact arithmetic from being floored one too low
        self.resolutions = [math.floor(base_resolution * per_level_scale**level + 1e-6) for level in range(n_levels)]
        self.sizes = [min((r + 1) ** n_input_dims, self.table_size) for r in self.resolutions]
        self.table = nn.Parameter(torch.empty(sum(self.sizes), n_features_per_level).uniform_(-1e-4, 1e-4))
        self.active_levels = n_levels

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1], else moved to the border → [N, n_levels · n_features_per_level]."""
        x = x.clamp(0, 1).to(self.table.dtype)
        levels = list(zip(self.table.split(self.sizes), self.resolutions, strict=True))
        encoded = [self._level(t, r, x) for t, r in levels[: self.active_levels]]
        missing = self.n_output_dims - self.active_levels * self.n_features
        if missing:
            encoded.append(x.new_zeros(len(x), missing))
        return torch.cat(encoded, -1)

    def _level(self, table: Tensor, resolution: int, x: Tensor) -> Tensor:
        position = (x * resolution).unbind(-1)
        # a point on the far face belongs to the last cell
        floors = [p.detach().floor().clamp(max=resolution - 1) for p in position]
        high = [p - f for p, f in zip(position, floors, strict=True)]
        weight = corner_weights([1 - f for f in high], high)
        return gather(table, self._corners(floors, resolution), weight)

    def _corners(self, floors: list[Tensor], resolution: int) -> Tensor:
        """Rows of the 2^D vertices of each cell, [N, 2^D] int32, the first axis changing fastest."""
        side = resolution + 1
        dense = side ** len(floors) <= self.table_size
        axes = []
        for k, floor in enumerate(floors):
            factor = side**k if dense else _PRIMES[k]
            lower = floor.long() * factor
            pair = torch.stack([lower, lower + factor])
            axes.append((pair if dense else pair & (self.table_size - 1)).to(torch.int32))
        rows = list(axes[-1])
        for pair in reversed(axes[:-1]):
            rows = [r + a if dense else r ^ a for r in rows for a in pair]
        return torch.stack(rows, -1)


class Frequency(nn.Module):
    """sin and cos of π 2^k x, k = 0 … n_frequencies−1, per coordinate (Mildenhall et al. 2020, equation 4)."""

    scales: Tensor

    def __init__(self, n_input_dims: int, n_frequencies: int = 12) -> None:
        super().__init__()
        self.n_input_dims, self.n_output_dims = n_input_dims, 2 * n_input_dims * n_frequencies
        self.register_buffer("scales", math.pi * 2.0 ** torch.arange(n_frequencies), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, 2 · D · n_frequencies]: all sines, then all cosines."""
        phase = (x[..., None] * self.scales.to(x)).flatten(-2)
        return torch.cat([phase.sin(), phase.cos()], -1)


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics Y_lm, l < degree, orthonormal on the sphere; order: l, then m = −l … l."""

    def __init__(self, n_input_dims: int = 3, degree: int = 4) -> None:
        super().__init__()
        self.n_input_dims, self.n_output_dims, self.degree = n_input_dims, degree**2, degree

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3], unit directions d as (d + 1)/2 in [0, 1] → [N, degree²]."""
        x, y, z = (x * 2 - 1).unbind(-1)
        out: list[Tensor | None] = [None] * self.n_output_dims
        real, imaginary = torch.ones_like(x), torch.zeros_like(x)  # (x + iy)^m = sin^m θ e^{imφ}
        start = torch.ones_like(z)  # associated Legendre functions without sin^m θ: P_mm = (2m−1)!!
        for m in range(self.degree):
            before, legendre = torch.zeros_like(z), start
            for l in range(m, self.degree):
                norm = math.sqrt((2 * l + 1) / (4 * math.pi) * math.factorial(l - m) / math.factorial(l + m))
                norm *= math.sqrt(2) if m else 1
                out[l * l + l + m] = norm * legendre * real
                if m:
                    out[l * l + l - m] = norm * legendre * imaginary
                before, legendre = legendre, ((2 * l + 1) * z * legendre - (l + m) * before) / (l - m + 1)
            start = start * (2 * m + 1)
            real, imaginary = real * x - imaginary * y, real * y + imaginary * x
        return torch.stack([o for o in out if o is not None], -1)


class Identity(nn.Module):
    """The input itself."""

    def __init__(self, n_input_dims: int) -> None:
        super().__init__()
        self.n_input_dims = self.n_output_dims = n_input_dims

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] → [N, D]."""
        return x
