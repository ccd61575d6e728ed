"""The rasteriser's kernels as operators of PyTorch; see `render.rasterise` for what they mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .kernels import coverage, silhouettes, surfaces, texels
from .kernels.triangles import Scene
from .launching import compile_kernels, launch, part_count

MODULES = coverage, surfaces, silhouettes, texels
"""What has kernels."""
_STRIPS = 32
"""Threads on CUDA that share the rows of a triangle."""
_BLOCK = 16
"""Rows on a CPU that a thread has together, so that most small triangles are one thread's."""


@cache
def load(device: torch.device) -> None:
    """Compiles all kernels for a device, or loads them from an earlier run's cache."""
    compile_kernels((kernel for module in MODULES for kernel in module.KERNELS), device)


def sweep(
    kernel: Any,
    rows: int,
    width: int,
    device: torch.device,
    inputs: Callable[[int, int], list[Any]],
    most: int | None = None,
) -> None:
    """Runs a kernel over pixels: a thread has every n-th row on a CPU, and a pixel on CUDA.

    Args:
        kernel: With the arguments of inputs(first, part) up to `part`, items, span and stride, and the others.
        rows: Of all images.
        width: Pixels of a row.
        device: Where.
        inputs: Of (first task, part): the arguments without items, span and stride, which come after the first three.
        most: Largest number of threads on a CPU.
    """
    own = device.type != "cpu"
    items, span = (rows * width, 1) if own else (rows, width)
    tasks = items if own else min(most or part_count(device), rows)

    def whole(first: int, part: int) -> list[Any]:
        scene, *rest = inputs(first, part)
        return [scene, first, part, items, span, tasks, *rest]

    launch(kernel, tasks, device, whole)


def scene_of(pos: Tensor, tri: Tensor, ranges: Tensor, instanced: bool, height: int, width: int) -> Any:
    """The struct of what is seen."""
    scene = Scene()
    scene.pos = wp.from_torch(pos.detach(), dtype=wp.vec4)
    scene.tri, scene.ranges = wp.from_torch(tri, dtype=wp.vec3i), wp.from_torch(ranges, dtype=wp.vec2i)
    scene.instanced, scene.width, scene.height = int(instanced), width, height
    return scene


def pixels(x: Tensor) -> Any:
    """Four numbers a pixel, as vectors."""
    return wp.from_torch(x.detach().view(-1, 4), dtype=wp.vec4)


@torch.library.custom_op("pullback::rasterise", mutates_args=())
def rasterise(
    pos: Tensor, tri: Tensor, ranges: Tensor, instanced: bool, most: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Coordinates and their slopes of what each pixel shows.

    Args:
        pos: [N or 1, V, 4], float32, contiguous; differentiable.
        tri: [T, 3], int32, contiguous.
        ranges: [N, 2], int32, contiguous: first triangle of an image, and how many.
        instanced: Whether every image has positions of its own.
        most: Largest number of triangles of an image.
        height: Pixels.
        width: Pixels.

    Returns:
        [N, H, W, 4] both: (u, v, z/w, number of the triangle from 1 on); (∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y).
    """
    device, images = pos.device, len(ranges)
    load(device)
    scene = scene_of(pos, tri, ranges, instanced, height, width)
    rast, slopes = pos.new_empty(images, height, width, 4), pos.new_empty(images, height, width, 4)
    nothing = torch.iinfo(torch.int64).max
    keys = wp.from_torch(torch.full((images * height * width,), nothing, dtype=torch.int64, device=device))
    count = images * most
    if count:
        boxes = wp.from_torch(torch.empty(count, 4, dtype=torch.int32, device=device), dtype=wp.vec4i)
        launch(coverage.bound, count, device, lambda first, part: [scene, first, part, most, boxes])
        strips, block, groups = (
            (_STRIPS, 1, count) if device.type != "cpu" else (min(part_count(device), -(-height // _BLOCK)), _BLOCK, 1)
        )
        launch(
            coverage.cover, strips * groups, device,
            lambda first, part: [scene, first, part, most, boxes, strips, block, groups, keys],
        )  # fmt: skip
    outputs = keys, pixels(rast), pixels(slopes)
    sweep(surfaces.shade, images * height, width, device, lambda first, part: [scene, *outputs])
    return rast, slopes


@rasterise.register_fake
def _(
    pos: Tensor, tri: Tensor, ranges: Tensor, instanced: bool, most: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    shape = len(ranges), height, width, 4
    return pos.new_empty(shape), pos.new_empty(shape)


@torch.library.custom_op("pullback::rasterise_backward", mutates_args=())
def rasterise_backward(
    pos: Tensor, tri: Tensor, ranges: Tensor, instanced: bool, rast: Tensor, by_rast: Tensor, by_slopes: Tensor
) -> Tensor:
    """The gradient of the positions, from those of both results; that of the slopes may be empty."""
    device, (_, height, width, _) = pos.device, rast.shape
    load(device)
    scene = scene_of(pos, tri, ranges, instanced, height, width)
    gradient = pos.new_zeros(part_count(device), *pos.shape)
    inputs = [pixels(rast), pixels(by_rast), pixels(by_slopes), int(by_slopes.numel() > 0)]
    into = wp.from_torch(gradient, dtype=wp.vec4)
    sweep(surfaces.unshade, rast.shape[0] * height, width, device, lambda first, part: [scene, *inputs, into])
    return total(gradient)


@rasterise_backward.register_fake
def _(pos: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(pos)


def total(parts: Tensor) -> Tensor:
    """The sum over the first axis, in place and in one order."""
    return reduce(Tensor.add_, parts.unbind()).clone() if len(parts) > 1 else parts[0]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    pos, tri, ranges, ctx.instanced, *_ = inputs
    ctx.save_for_backward(pos, tri, ranges, output[0])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, by_rast: Tensor | None, by_slopes: Tensor | None) -> tuple[Any, ...]:
    pos, tri, ranges, rast = ctx.saved_tensors
    if by_rast is None and by_slopes is None:
        return (None,) * 7
    by_rast = torch.zeros_like(rast) if by_rast is None else by_rast.contiguous()
    by_slopes = rast.new_empty(0) if by_slopes is None else by_slopes.contiguous()
    return rasterise_backward(pos, tri, ranges, ctx.instanced, rast, by_rast, by_slopes), *(None,) * 6


rasterise.register_autograd(_gradient, setup_context=_setup)
