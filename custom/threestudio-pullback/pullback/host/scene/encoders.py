"""Encodings of positions and directions: multiresolution hash grid, frequencies, spherical harmonics.

They are plain PyTorch and know no framework, so that they can also stand in for tiny-cuda-nn.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .interpolation import corner_weights, gather

# Müller et al. 2022, equation 4, has the first three; the others are those of tiny-cuda-nn's coherent_prime_hash
_PRIMES = (1, 2654435761, 805459861, 3674653429, 2097192037, 1434869437, 2165219737)


OLD_LAYOUT = (
    "the checkpoint holds a hash grid in the layout of version 0.1, which cannot be converted to tiny-cuda-nn's; go on "
    "with the commit that the run's cmd.txt names, or train anew"
)


class GridLevel(NamedTuple):
    """One level of a hash grid.

    Attributes:
        scale: A position x in [0, 1] lies at x · scale + ½ in units of cells.
        resolution: Vertices a side, r.
        size: Entries that the level has.
        hashed: Whether the index of a vertex is a hash; otherwise it is x + y r + z r², modulo `size`.
        offset: The level's first entry among those of all levels.
    """

    scale: float
    resolution: int
    size: int
    hashed: bool
    offset: int


def grid_levels(
    n_input_dims: int, n_levels: int, log2_hashmap_size: int, base_resolution: int, per_level_scale: float
) -> list[GridLevel]:
    """The levels of tiny-cuda-nn's hash grid, in single precision as there (grid.h and common_device.h)."""
    levels, offset = [], 0
    growth = _single(math.log2(_single(per_level_scale)))
    for level in range(n_levels):
        power = _single(2.0 ** _single(level * growth))
        scale = _single(_single(power * base_resolution) - 1.0)
        resolution = math.ceil(scale) + 1
        vertices, largest = resolution**n_input_dims, 2**log2_hashmap_size
        size = min(-(-vertices // 8) * 8, largest)  # a multiple of 8 where it is not hashed
        levels.append(GridLevel(scale, resolution, size, vertices > largest, offset))
        offset += size
    return levels


def old_layout(names: Iterable[str]) -> bool:
    """Whether a state dict has a hash grid of version 0.1, whose cells and hashes are others than tiny-cuda-nn's."""
    return any(re.search(r"(^|\.)(encoding|grid)\.table$", name) for name in names)


def _single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


class HashGrid(nn.Module):
    """Multiresolution hash encoding (Müller, Evans, Schied, Keller 2022), in the layout of tiny-cuda-nn.

    Level l has N_l = base_resolution · per_level_scale^l vertices a side, which carry n_features_per_level numbers,
    interpolated linearly. A level with more than 2^log2_hashmap_size vertices keeps its features in a hash table of
    that size, a smaller one keeps them all. Vertices lie half a cell off the origin, so that those of different levels
    do not coincide; beyond the last vertex of a row the index runs on into the next row, as there.

    It is differentiable any number of times in the features and, inside a cell, in the position.

    Attributes:
        params: [entries of all levels · n_features_per_level], by level, entry, feature.
        levels: Where each level's entries are.
        active_levels: Number of levels in use; the others give zeros.
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
        self.levels = grid_levels(n_input_dims, n_levels, log2_hashmap_size, base_resolution, per_level_scale)
        entries = sum(level.size for level in self.levels)
        self.params = nn.Parameter(torch.empty(entries * n_features_per_level).uniform_(-1e-4, 1e-4))
        self.active_levels = n_levels

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1], else moved to the border → [N, n_levels · n_features_per_level]."""
        x = x.clamp(0, 1).to(self.params.dtype)
        tables = self.params.view(-1, self.n_features).split([level.size for level in self.levels])
        used = list(zip(tables, self.levels, strict=True))[: self.active_levels]
        encoded = [self._level(table, level, x) for table, level in used]
        missing = self.n_output_dims - self.active_levels * self.n_features
        if missing:
            encoded.append(x.new_zeros(len(x), missing))
        return torch.cat(encoded, -1)

    def _level(self, table: Tensor, level: GridLevel, x: Tensor) -> Tensor:
        position = (x * level.scale + 0.5).unbind(-1)
        floors = [p.detach().floor() for p in position]
        high = [p - f for p, f in zip(position, floors, strict=True)]
        weight = corner_weights([1 - f for f in high], high)
        return gather(table, self._corners(floors, level), weight)

    def _corners(self, floors: list[Tensor], level: GridLevel) -> Tensor:
        """Entries of the 2^D vertices of each cell, [N, 2^D] int32, the first axis changing fastest."""
        axes = []
        for k, floor in enumerate(floors):
            factor = _PRIMES[k] if level.hashed else level.resolution**k
            lower = floor.long() * factor
            pair = torch.stack([lower, lower + factor])
            # a hashed level's size is a power of two
            axes.append((pair & (level.size - 1) if level.hashed else pair).to(torch.int32))
        rows = list(axes[-1])
        for pair in reversed(axes[:-1]):
            rows = [r ^ a if level.hashed else r + a for r in rows for a in pair]
        index = torch.stack(rows, -1)
        return index if level.hashed else index.remainder_(level.size)


class FixedEncoding(nn.Module):
    """An encoding without parameters, whose outputs are in the order and have the signs of tiny-cuda-nn's.

    Its state dict holds an empty `params`, as tiny-cuda-nn's does. A checkpoint without it is of version 0.1, which had
    another order and other signs: loading one sets `params` to None, and the outputs are then those of version 0.1.
    """

    params: Tensor | None

    def __init__(self, n_input_dims: int, n_output_dims: int) -> None:
        super().__init__()
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        self.register_buffer("params", torch.empty(0))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.params = torch.empty(0) if f"{prefix}params" in state_dict else None
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Frequency(FixedEncoding):
    """sin and cos of π 2^k x, k = 0 … n_frequencies−1, per coordinate (Mildenhall et al. 2020, equation 4)."""

    scales: Tensor

    def __init__(self, n_input_dims: int, n_frequencies: int = 12) -> None:
        super().__init__(n_input_dims, 2 * n_input_dims * n_frequencies)
        self.register_buffer("scales", math.pi * 2.0 ** torch.arange(n_frequencies), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, 2 · D · n_frequencies]: by coordinate, then k, a sine and a cosine."""
        phase = (x[..., None] * self.scales.to(x)).flatten(-2)
        waves = [phase.sin(), phase.cos()]
        return torch.cat(waves, -1) if self.params is None else torch.stack(waves, -1).flatten(-2)


class SphericalHarmonics(FixedEncoding):
    """Real spherical harmonics Y_lm, l < degree, orthonormal on the sphere; order: l, then m = −l … l.

    They have the Condon-Shortley phase (−1)^m.
    """

    def __init__(self, n_input_dims: int = 3, degree: int = 4) -> None:
        super().__init__(n_input_dims, degree**2)
        self.degree = degree

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
                norm *= 1 if self.params is None else (-1) ** m
                out[l * l + l + m] = norm * legendre * real
                if m:
                    out[l * l + l - m] = norm * legendre * imaginary
                before, legendre = legendre, ((2 * l + 1) * z * legendre - (l + m) * before) / (l - m + 1)
            start = start * (2 * m + 1)
            real, imaginary = real * x - imaginary * y, real * y + imaginary * x
        return torch.stack([o for o in out if o is not None], -1)


class Identity(FixedEncoding):
    """The input itself."""

    def __init__(self, n_input_dims: int) -> None:
        super().__init__(n_input_dims, n_input_dims)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] → [N, D]."""
        return x
