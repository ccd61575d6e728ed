"""The encoding a config block describes: one of encoders.py, or one that gains bands during training.

A hash grid has a choice of backends, all with the same parameters in the same order.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...render.backends import fused_trouble
from ..base import Updateable, get_device
from ..config import config_to_primitive
from ..registry import info
from .encoders import Frequency, HashGrid, Identity, SphericalHarmonics
from .tiny_cuda import tiny_cuda_grid, trouble


class Encoding(nn.Module):
    """An encoding, at the place in a checkpoint that threestudio gives to tiny-cuda-nn's: `encoding.params`."""

    def __init__(self, encoding: nn.Module) -> None:
        super().__init__()
        self.encoding = encoding
        self.n_input_dims: Any = encoding.n_input_dims
        self.n_output_dims: Any = encoding.n_output_dims

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, n_output_dims]."""
        return self.encoding(x)


class ProgressiveBandHashGrid(Encoding, Updateable):
    """Hash grid whose finer levels are zero at first: it has `start_level` levels, and one more every `update_steps`.

    The first further level comes `update_steps` after `start_step`.
    """

    def __init__(self, grid: nn.Module, n_levels: int, start_level: int, start_step: int, update_steps: int) -> None:
        super().__init__(grid)
        self.encoding: Any  # whatever the backend, it has active_levels
        self.n_levels, self.start_level, self.start_step = n_levels, start_level, start_step
        self.update_steps = update_steps
        self.update_step(0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] in [0, 1] → [N, n_output_dims], zero in the levels that are not open."""
        encoded = self.encoding(x)
        width = self.n_output_dims // self.n_levels * self.encoding.active_levels
        return F.pad(encoded[:, :width], (0, self.n_output_dims - width))

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the number of levels for this step."""
        more = max(global_step - self.start_step, 0) // self.update_steps
        self.encoding.active_levels = min(self.start_level + more, self.n_levels)


class ProgressiveBandFrequency(Frequency, Updateable):
    """`Frequency` without the π; its bands fade in, one by one, over `n_masking_step` steps; with 0 all are there."""

    mask: Tensor

    def __init__(self, n_input_dims: int, n_frequencies: int, n_masking_step: int = 0) -> None:
        super().__init__(n_input_dims, n_frequencies)
        self.params = None  # tiny-cuda-nn does not have it
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


_FIXED: dict[str, Any] = {kind.__name__: kind for kind in (Frequency, SphericalHarmonics, Identity)}
_KINDS = ("HashGrid", "ProgressiveBandHashGrid", "ProgressiveBandFrequency", *_FIXED)
_BANDS = ("start_level", "start_step", "update_steps")
BACKENDS = ("auto", "fused", "torch", "tinycudann")


def hash_grid() -> dict[str, Any]:
    """Threestudio's usual `pos_encoding_config`."""
    return {
        "otype": "HashGrid", "n_levels": 16, "n_features_per_level": 2, "log2_hashmap_size": 19, "base_resolution": 16,
        "per_level_scale": 1.447269237440378,
    }  # fmt: skip


def get_encoding(n_input_dims: int, config: Any, path: str = "pos_encoding_config") -> CompositeEncoding:
    """The encoding a config block describes.

    Args:
        n_input_dims: D of the positions [N, D], which lie in [0, 1].
        config: otype and its options, in tiny-cuda-nn's spelling, include_xyz, and of a hash grid also backend.
        path: where the block is, for errors.

    Raises:
        UserError: unknown otype, option or backend, or a backend that cannot be had.
    """
    options = dict(config_to_primitive(config))
    otype, include_xyz = options.pop("otype", None), bool(options.pop("include_xyz", False))
    if otype not in _KINDS:
        raise UserError(f"`{path}.otype` is '{otype}', but should be one of {', '.join(_KINDS)}")
    try:
        return CompositeEncoding(_build(otype, n_input_dims, options, path), include_xyz)
    except TypeError as e:  # the constructor's own words name the option
        detail = str(e).partition("() ")[2] or str(e)
        raise UserError(f"`{path}` does not fit {otype}: {detail}") from e


def _build(otype: str, n_input_dims: int, options: dict[str, Any], path: str) -> nn.Module:
    if otype == "ProgressiveBandFrequency":
        return ProgressiveBandFrequency(n_input_dims, **options)
    if otype in _FIXED:
        return Encoding(_FIXED[otype](n_input_dims, **options))
    bands = {key: options.pop(key) for key in _BANDS if key in options and otype == "ProgressiveBandHashGrid"}
    grid = _grid(n_input_dims, options.pop("backend", "auto"), options, path)
    if otype == "HashGrid":
        return Encoding(grid)
    return ProgressiveBandHashGrid(grid, options.get("n_levels", 16), **bands)


def _grid(n_input_dims: int, backend: str, options: dict[str, Any], path: str) -> nn.Module:
    """The hash grid by a backend; `auto` takes the fastest that works on this device."""
    if backend not in BACKENDS:
        raise UserError(f"`{path}.backend` is '{backend}', but should be one of {', '.join(BACKENDS)}")
    inspect.signature(HashGrid).bind(n_input_dims, **options)  # tiny-cuda-nn ignores an option that it does not know
    device = get_device()
    if backend == "fused" and (reason := fused_trouble(device, "hashgrid")) is not None:
        raise UserError(f"`{path}.backend` is fused, which cannot be used on {device}: {reason}; set it to auto")
    # the fused renderer reads a HashGrid; where it works there is no use for another's
    second_best = backend == "auto" and device.type == "cuda" and _has("tinycudann") and fused_trouble(device, None)
    if backend == "tinycudann" or second_best:
        reason = trouble(device)
        if reason is None:
            return tiny_cuda_grid(n_input_dims, **options)
        if backend == "tinycudann":
            raise UserError(
                f"`{path}.backend` is tinycudann, which cannot be used on {device}: {reason}; set it to auto"
            )
        _say_once(f"tiny-cuda-nn is installed but cannot be used ({reason}); hash grids are computed by PyTorch")
    return HashGrid(n_input_dims, **options)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@functools.cache
def _say_once(line: str) -> None:
    info(line)
