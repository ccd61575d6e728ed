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
