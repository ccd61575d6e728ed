"""The encoding a config block describes: one of encoders.py, or one that gains bands during training.

On a CUDA device with tiny-cuda-nn installed, its kernels are used for the hash grid.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..base import Updateable, get_device
from ..config import config_to_primitive
from .encoders import Frequency, HashGrid, Identity, SphericalHarmonics


class ProgressiveBandHashGrid(nn.Module, Updateable):
    """Hash grid whose finer levels are zero at first: it has `start_level` levels, and one more every `update_steps`.

    The first further level comes `update_steps` after `start_step`.
    """

    def __init__(self, n_input_dims: int, start_level: int, start_step: int, update_steps: int, **grid: Any) -> None:
        super().__init__()
        self.grid = HashGrid(n_input_dims, **grid)
        self.n_input_dims, self.n_output_dims = n_input_dims, self.grid.n_output_dims
        self.start_level, self.start_step, self.update_steps = start_level, start_step, update_steps
        self.update_step(0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, n_levels · n_features_per_level]."""
        return self.grid(x)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the number of levels for this step."""
        more = max(global_step - self.start_step, 0) // self.update_steps
        self.grid.active_levels = min(self.start_level + more, len(self.grid.resolutions))


class ProgressiveBandFrequency(Frequency, Updateable):
    """`Frequency` without the π; its bands fade in, one by one, over `n_masking_step` steps; with 0 all are there."""

    mask: Tensor

    def __init__(self, n_input_dims: int, n_frequencies: int, n_masking_step: int = 0) -> None:
        super().__init__(n_input_dims, n_frequencies)
        self.n_masking_step = n_masking_step
        self.scales /= math.pi
        self.register_buffer("mask", torch.ones(n_frequencies), persistent=False)
        self.update_step(0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, 2 · D · n_frequencies]."""
        bands = super().forward(x).unflatten(-1, (-1, len(self.mask)))
        return (bands * self.mask.to(x)).flatten(-2)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the weights of the bands for this step."""
        if self.n_masking_step > 0:
            n = len(self.mask)
            reached = (global_step / self.n_masking_step * n - torch.arange(n, device=self.mask.device)).clamp(0, 1)
            self.mask = (1 - torch.cos(math.pi * reached)) / 2


class TinyCudaEncoding(nn.Module):
    """tiny-cuda-nn's hash grid, in single precision."""

    def __init__(self, n_input_dims: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        import tinycudann  # type: ignore[import-not-found]

        self.encoding = tinycudann.Encoding(n_input_dims, dict(config), dtype=torch.float32)
        self.n_input_dims, self.n_output_dims = n_input_dims, self.encoding.n_output_dims

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, n_output_dims]."""
        return self.encoding(x)


class CompositeEncoding(nn.Module, Updateable):
    """An encoding; with `include_xyz` the position itself, scaled to [-1, 1], comes first."""

    def __init__(self, encoding: nn.Module, include_xyz: bool = False) -> None:
        super().__init__()
        self.encoding, self.include_xyz = encoding, include_xyz
        self.n_output_dims: int = encoding.n_output_dims + include_xyz * encoding.n_input_dims  # type: ignore[operator,assignment]

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, n_output_dims]."""
        encoded = self.encoding(x)
        return torch.cat([x * 2 - 1, encoded], -1) if self.include_xyz else encoded


_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (HashGrid, ProgressiveBandHashGrid, Frequency, ProgressiveBandFrequency, SphericalHarmonics, Identity)
}


def get_encoding(n_input_dims: int, config: Any, path: str = "pos_encoding_config") -> CompositeEncoding:
    """The encoding a config block describes.

    Args:
        n_input_dims: D of the positions [N, D], which lie in [0, 1].
        config: otype and its options, in tiny-cuda-nn's spelling, and include_xyz.
        path: where the block is, for errors.

    Raises:
        UserError: unknown otype or option.
    """
    options = dict(config_to_primitive(config))
    otype, include_xyz = options.pop("otype", None), bool(options.pop("include_xyz", False))
    if otype not in _KINDS:
        raise UserError(f"`{path}.otype` is '{otype}', but should be one of {', '.join(_KINDS)}")
    if otype == "HashGrid" and get_device().type == "cuda" and importlib.util.find_spec("tinycudann") is not None:
        return CompositeEncoding(TinyCudaEncoding(n_input_dims, {"otype": otype, **options}), include_xyz)
    try:
        return CompositeEncoding(_KINDS[otype](n_input_dims, **options), include_xyz)
    except TypeError as e:  # the constructor's own words name the option
        detail = str(e).partition("() ")[2] or str(e)
        raise UserError(f"`{path}` does not fit {otype}: {detail}") from e
