"""Lookups in textures as operators of PyTorch; see `render.textures.texture`."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

from .kernels import texels as kernels
from .launching import part_count
from .raster import load, sweep, total

_MOST = 2**26
"""Numbers of all copies of a texture's gradient; where more would be needed, fewer threads sum."""


def _texture(texels: Tensor, levels: Tensor, boundary: int, nearest: bool) -> Any:
    texture = kernels.Texture()
    texture.texels, texture.levels = wp.from_torch(texels.detach()), wp.from_torch(levels)
    texture.boundary, texture.nearest = boundary, int(nearest)
    return texture


def _rows(x: Tensor) -> Any:
    return wp.from_torch(x.detach().view(-1, x.shape[-1]))


@torch.library.custom_op("pullback::look_up", mutates_args=())
def look_up(texels: Tensor, levels: Tensor, uv: Tensor, level: Tensor, boundary: int, nearest: bool) -> Tensor:
    """What a texture shows.

    Args:
        texels: [N or 1, T, C], float32, contiguous; differentiable.
        levels: [L, 3], int32, contiguous: first texel, rows and columns.
        uv: [N, H, W, 2 or 3], float32, contiguous; differentiable.
        level: [N, H, W], in [0, L − 1], contiguous; or [0]. Differentiable.
        boundary: See `kernels.texels`.
        nearest: Whether the nearest texel alone counts.

    Returns:
        [N, H, W, C].
    """
    device, (images, height, width, _) = uv.device, uv.shape
    load(device)
    out = uv.new_empty(images, height, width, texels.shape[2])
    texture = _texture(texels, levels, boundary, nearest)
    inputs = [height * width, _rows(uv), wp.from_torch(level.detach().view(-1)), _rows(out)]
    sweep(kernels.look_up, images * height, width, device, lambda first, part: [texture, *inputs])
    return out


@look_up.register_fake
def _(texels: Tensor, levels: Tensor, uv: Tensor, level: Tensor, boundary: int, nearest: bool) -> Tensor:
    return uv.new_empty(*uv.shape[:3], texels.shape[2])


@torch.library.custom_op("pullback::look_up_backward", mutates_args=())
def look_up_backward(
    texels: Tensor, levels: Tensor, uv: Tensor, level: Tensor, boundary: int, nearest: bool, by_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of texels, places and levels."""
    device, (images, height, width, _) = uv.device, uv.shape
    load(device)
    copies = max(1, min(part_count(device), _MOST // max(1, texels.numel())))
    by_texels, by_uv, by_level = texels.new_zeros(copies, *texels.shape), torch.empty_like(uv), torch.empty_like(level)
    texture = _texture(texels, levels, boundary, nearest)
    inputs = [height * width, _rows(uv), wp.from_torch(level.detach().view(-1)), _rows(by_out)]
    inputs += [wp.from_torch(by_texels), _rows(by_uv), wp.from_torch(by_level.view(-1))]
    rows = images * height
    sweep(kernels.look_up_back, rows, width, device, lambda first, part: [texture, *inputs], copies)
    return total(by_texels), by_uv, by_level


@look_up_backward.register_fake
def _(texels: Tensor, levels: Tensor, uv: Tensor, level: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(texels), torch.empty_like(uv), torch.empty_like(level)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    texels, levels, uv, level, ctx.boundary, ctx.nearest = inputs
    ctx.save_for_backward(texels, levels, uv, level)


def _gradient(ctx: Any, by_out: Tensor) -> tuple[Any, ...]:
    texels, levels, uv, level = ctx.saved_tensors
    found = look_up_backward(texels, levels, uv, level, ctx.boundary, ctx.nearest, by_out.contiguous())
    return found[0], None, found[1], found[2] if level.numel() else None, None, None


look_up.register_autograd(_gradient, setup_context=_setup)
