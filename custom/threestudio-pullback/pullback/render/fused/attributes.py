"""Attributes of corners at pixels as operators of PyTorch; see `render.rasterise.interpolate`."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

from .kernels import surfaces
from .launching import part_count
from .raster import load, pixels, sweep, total


@torch.library.custom_op("pullback::interpolate", mutates_args=())
def interpolate(attributes: Tensor, rast: Tensor, tri: Tensor, whole: float) -> Tensor:
    """Attributes at each pixel, 0 where nothing is.

    Args:
        attributes: [N or 1, V, A], float32, contiguous; differentiable.
        rast: [N, H, W, 4], contiguous, (u, v, ·, number of the triangle); differentiable.
        tri: [T, 3], int32, contiguous.
        whole: The corners weigh u, v and whole − u − v.

    Returns:
        [N, H, W, A].
    """
    device, (images, height, width, _) = rast.device, rast.shape
    load(device)
    out = rast.new_empty(images, height, width, attributes.shape[2])
    corners = wp.from_torch(tri, dtype=wp.vec3i)
    inputs = [height * width, whole, pixels(rast), wp.from_torch(attributes.detach())]
    inputs += [wp.from_torch(out.view(-1, out.shape[3]))]
    sweep(surfaces.interpolate, images * height, width, device, lambda first, part: [corners, *inputs])
    return out


@interpolate.register_fake
def _(attributes: Tensor, rast: Tensor, tri: Tensor, whole: float) -> Tensor:
    return rast.new_empty(*rast.shape[:3], attributes.shape[2])


@torch.library.custom_op("pullback::interpolate_backward", mutates_args=())
def interpolate_backward(
    attributes: Tensor, rast: Tensor, tri: Tensor, whole: float, by_out: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the attributes and of `rast`."""
    device, (images, height, width, _) = rast.device, rast.shape
    load(device)
    parts, by_rast = attributes.new_zeros(part_count(device), *attributes.shape), torch.empty_like(rast)
    corners = wp.from_torch(tri, dtype=wp.vec3i)
    inputs = [height * width, whole, pixels(rast), wp.from_torch(attributes.detach())]
    inputs += [wp.from_torch(by_out.view(-1, by_out.shape[3])), wp.from_torch(parts), pixels(by_rast)]
    sweep(surfaces.uninterpolate, images * height, width, device, lambda first, part: [corners, *inputs])
    return total(parts), by_rast


@interpolate_backward.register_fake
def _(attributes: Tensor, rast: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(attributes), torch.empty_like(rast)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    attributes, rast, tri, ctx.whole = inputs
    ctx.save_for_backward(attributes, rast, tri)


def _gradient(ctx: Any, by_out: Tensor) -> tuple[Any, ...]:
    attributes, rast, tri = ctx.saved_tensors
    return *interpolate_backward(attributes, rast, tri, ctx.whole, by_out.contiguous()), None, None


interpolate.register_autograd(_gradient, setup_context=_setup)
