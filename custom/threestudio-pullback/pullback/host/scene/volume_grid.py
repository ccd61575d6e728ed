"""`volume-grid`: density and features in a voxel grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..registry import register
from .geometry import BLOBS, DensityField
from .interpolation import lookup_voxels
from .specks import find_specks

_EMPTY = -10.0  # density before the activation


@register("volume-grid")
class VolumeGrid(DensityField):
    """Voxels of pre-activation density and features, interpolated trilinearly; outside the box there is only the bias.

    `grid` is [1, 1 + n_feature_dims, *grid_size]; x runs along the last axis. With a bias that is a number
    the grid's density is multiplied by a learned exp(density_scale).
    """

    @dataclass
    class Config(DensityField.Config):
        grid_size: tuple[int, int, int] = (100, 100, 100)
        density_bias: Any = "blob"
        density_blob_scale: float = 5.0
        finite_difference_normal_eps: float = 1e-3
        isosurface_threshold: Any = "auto"

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.grid_size) < 2:
                raise ConfigError("grid_size", f"must hold three sizes of at least 2, not {list(self.grid_size)}")

    def configure(self) -> None:
        """Makes the grids, all zero."""
        super().configure()
        self.grid = self._voxels(1 + self.cfg.n_feature_dims)
        scale = torch.tensor(0.0)
        if self.cfg.density_bias in BLOBS:
            self.register_buffer("density_scale", scale)
        else:
            self.density_scale = nn.Parameter(scale)
        if self.cfg.normal_type == "pred":
            self.normal_grid = self._voxels(3)

    def _voxels(self, channels: int) -> nn.Parameter:
        zeros = torch.zeros(1, channels, *self.cfg.grid_size)
        return nn.Parameter(zeros.contiguous(memory_format=torch.channels_last_3d))  # a voxel's numbers side by side

    def raw(self, points: Tensor, features: bool, normal: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `DensityField.raw`."""
        voxels = lookup_voxels(self.grid if features else self.grid[:, :1], points)
        return (
            voxels[:, :1] * self.density_scale.exp(),
            voxels[:, 1:] if features else None,
            lookup_voxels(self.normal_grid, points) if normal else None,
        )

    def _kernel(self) -> tuple[str, list[Tensor], list[float]] | str:
        """See `DensityField._kernel`."""
        rows = self.grid.permute(0, 2, 3, 4, 1).reshape(-1, self.grid.shape[1])
        return "voxels", [rows, self.density_scale.exp().view(1)], [float(n) for n in self.grid.shape[:1:-1]]

    @torch.no_grad()
    def remove_specks(self) -> int:
        """Empties what floats free of the object, see `find_specks`; returns the number of voxels."""
        radius, sizes = self.cfg.radius, self.grid.shape[2:]
        axes = [((torch.arange(n, device=self.grid.device) + 0.5) * 2 / n - 1) * radius for n in sizes]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        bias = torch.as_tensor(self._bias(torch.stack([x, y, z], -1)), device=x.device)
        bias = bias[..., 0] if bias.ndim else bias.expand(x.shape)
        scale = self.density_scale.exp()
        density = self.density_activation(self.grid[0, 0] * scale + bias)
        specks = find_specks(density, 2 * radius / max(sizes))
        self.grid[0, 0][specks] = (_EMPTY - bias[specks]) / scale
        return int(specks.sum())
