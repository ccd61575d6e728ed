"""Smoothing at silhouettes as operators of PyTorch; see `render.rasterise.antialias`."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

from .kernels import silhouettes
from .launching import launch, part_count
from .raster import load, pixels, scene_of, sweep, total


@torch.library.custom_op("pullback::opposite", mutates_args=())
def opposite(tri: Tensor) -> Tensor:
    """For each edge of each triangle the corner of the triangle on its other side, -1 for none.

    Args:
        tri: [T, 3], int32, contiguous.

    Returns:
        [T, 3] int32; the edge opposite a corner has that corner's place.
    """
    device, count = tri.device, 3 * len(tri)
    load(device)
    found = torch.empty_like(tri)
    if not count:
        return found
    edges = silhouettes.Edges()
    edges.tri = wp.from_torch(tri, dtype=wp.vec3i)
    lists = tri.new_full((2, count), -1)
    edges.head, edges.next = wp.from_torch(lists[0]), wp.from_torch(lists[1])
    strips, stride = (1, count) if device.type != "cpu" else (part_count(device), 1)
    launch(silhouettes.link, strips * stride, device, lambda first, part: [edges, first, part, strips, stride])
    into = wp.from_torch(found.view(-1))
    launch(silhouettes.oppose, count, device, lambda first, part: [edges, first, part, into])
    return found


@opposite.register_fake
def _(tri: Tensor) -> Tensor:
    return torch.empty_like(tri)


@torch.library.custom_op("pullback::antialias", mutates_args=())
def antialias(
    colour: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, opposite: Tensor, instanced: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Smooths a picture.

    Args:
        colour: [N, H, W, C], float32, contiguous; differentiable.
        rast: [N, H, W, 4], contiguous.
        pos: [N or 1, V, 4], float32, contiguous; differentiable.
        tri: [T, 3], int32, contiguous.
        opposite: [T, 3], int32, contiguous.
        instanced: Whether every image has positions of its own.

    Returns:
        The picture; and [N, H, W, 2], between each pixel and its neighbours on the right and above, which share of the
        other's colour one takes, and at which edge.
    """
    device, (images, height, width, _) = rast.device, rast.shape
    load(device)
    scene = scene_of(pos, tri, tri.new_zeros(0, 2), instanced, height, width)
    out, share = torch.empty_like(colour), rast.new_zeros(images, height, width, 2)
    code = torch.zeros(images, height, width, 2, dtype=torch.int8, device=device)
    marks = torch.empty(len(pos), max(1, len(tri)), dtype=torch.uint8, device=device)
    marked, others = wp.from_torch(marks), wp.from_torch(opposite, dtype=wp.vec3i)
    if len(tri):
        launch(silhouettes.mark, len(pos) * len(tri), device, lambda first, part: [scene, first, part, others, marked])
    shares, rows = wp.from_torch(share.view(-1, 2)), images * height
    found = [marked, pixels(rast), shares, wp.from_torch(code.view(-1, 2))]
    sweep(silhouettes.compare, rows, width, device, lambda first, part: [scene, *found])
    colours = [wp.from_torch(x.detach().view(-1, x.shape[3])) for x in (colour, out)]
    sweep(silhouettes.smooth, rows, width, device, lambda first, part: [scene, shares, *colours])
    return out, share, code


@antialias.register_fake
def _(colour: Tensor, rast: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    shape = *rast.shape[:3], 2
    return torch.empty_like(colour), rast.new_empty(shape), rast.new_empty(shape, dtype=torch.int8)


@torch.library.custom_op("pullback::antialias_backward", mutates_args=())
def antialias_backward(
    colour: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, instanced: bool, share: Tensor, code: Tensor, by_out: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the colours and of the positions."""
    device, (images, height, width, _) = rast.device, rast.shape
    load(device)
    scene = scene_of(pos, tri, tri.new_zeros(0, 2), instanced, height, width)
    by_colour, gradient = torch.empty_like(colour), pos.new_zeros(part_count(device), *pos.shape)
    inputs = [pixels(rast), *(wp.from_torch(x.view(-1, 2)) for x in (share, code))]
    inputs += [wp.from_torch(x.detach().view(-1, x.shape[3])) for x in (colour, by_out, by_colour)]
    into = wp.from_torch(gradient, dtype=wp.vec4)
    sweep(silhouettes.unsmooth, images * height, width, device, lambda first, part: [scene, *inputs, into])
    return by_colour, total(gradient)


@antialias_backward.register_fake
def _(colour: Tensor, rast: Tensor, pos: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(colour), torch.empty_like(pos)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    colour, rast, pos, tri, _, ctx.instanced = inputs
    ctx.save_for_backward(colour, rast, pos, tri, *output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, by_out: Tensor | None, *_: Any) -> tuple[Any, ...]:
    colour, rast, pos, tri, share, code = ctx.saved_tensors
    if by_out is None:
        return (None,) * 6
    gradients = antialias_backward(colour, rast, pos, tri, ctx.instanced, share, code, by_out.contiguous())
    return gradients[0], None, gradients[1], None, None, None


antialias.register_autograd(_gradient, setup_context=_setup)
