"""A multiresolution hash grid with two small networks behind it, for the fused kernels.

The grid is tiny-cuda-nn's, as the host's `HashGrid`; the networks have one hidden layer of ReLUs and no biases, one for
the density and one for three features. Source: Müller, Evans, Schied, Keller 2022.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .lattice import encode, spread_level
from .marching import Rays
from .networks import WORKSPACE, network, network_gradient, read, write
from .spans import Span, enter

__all__ = ["KERNELS", "WORKSPACE", "Field", "Gradient", "collect", "differentiate", "evaluate", "fill", "kept", "zeros"]

_REPLICAS = 256
"""Sums of the networks' gradients on CUDA, so that not all threads add to the same numbers."""


Launch = Callable[..., None]
"""(kernel, tasks, device, inputs(first task, part)); see `operators`."""


@wp.struct
class Field:
    """The grid and the networks.

    Attributes:
        entries: Of all levels, two features each.
        scale: [levels]; a position x in [0, 1] lies at x · scale + ½ in units of cells.
        shape: [levels, 4]: vertices a side, entries, whether the index is a hash, first entry.
        active: Number of levels in use; the others give zeros.
        density: [H, 2 · levels], hidden layer of the density's network.
        density_out: [1, H].
        feature: [H, 2 · levels], hidden layer of the features' network.
        feature_out: [3, H].
    """

    entries: wp.array(dtype=wp.vec2)
    scale: wp.array(dtype=float)
    shape: wp.array2d(dtype=int)
    active: int
    density: wp.array2d(dtype=float)
    density_out: wp.array2d(dtype=float)
    feature: wp.array2d(dtype=float)
    feature_out: wp.array2d(dtype=float)


@wp.struct
class Gradient:
    """Where gradients are summed.

    Attributes:
        inputs: [R, S, 2 · levels], those of the networks' inputs, which `spread` adds to the entries.
        density: [replicas, H, 2 · levels], as all the networks' by slot modulo the first axis.
        density_out: [replicas, 1, H].
        feature: [replicas, H, 2 · levels].
        feature_out: [replicas, 3, H].
    """

    inputs: wp.array3d(dtype=float)
    density: wp.array3d(dtype=float)
    density_out: wp.array3d(dtype=float)
    feature: wp.array3d(dtype=float)
    feature_out: wp.array3d(dtype=float)


@wp.func
def evaluate(
    field: Field, span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float), kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Puts the raw numbers of a tile's samples into the workspace."""
    encode(field.entries, field.scale, field.shape, field.active, span, ray, first, count, index, workspace, slot, kept)
    network(field.density, field.density_out, 0, workspace, slot)
    network(field.feature, field.feature_out, 1, workspace, slot)


@wp.func
def differentiate(
    field: Field, gradient: Gradient, part: int, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
    kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a tile, in the workspace by raw number, to the networks'; keeps those of the inputs."""
    read(workspace, slot, kept, ray, first, count)
    network_gradient(
        field.density, field.density_out, 0, gradient.density, gradient.density_out, workspace, slot, kept, ray,
        first, count,
    )  # fmt: skip
    network_gradient(
        field.feature, field.feature_out, 1, gradient.feature, gradient.feature_out, workspace, slot, kept, ray,
        first, count,
    )  # fmt: skip
    write(workspace, slot, gradient.inputs, ray, first, count)


@wp.kernel(enable_backward=False)
def spread(
    rays: Rays, field: Field, first: int, part: int, own_ray: bool, order: wp.array(dtype=int),
    index: wp.array2d(dtype=wp.int16), used: wp.array(dtype=int), slopes: wp.array3d(dtype=float),
    gradient: wp.array(dtype=wp.vec2),
):  # fmt: skip
    """Adds the gradients of all inputs to the entries; a thread has a level, or on CUDA a level of a ray."""
    task, count = first + wp.tid(), used.shape[0]
    begin, end = int(0), int(count)
    level = int(task)
    if own_ray:
        level = task // count
        begin = task - level * count
        end = begin + 1
    level = order[level]
    for r in range(begin, end):
        if used[r] > 0:
            span = enter(
                rays.origins[r], rays.directions[r], rays.low, rays.high, rays.field_low, rays.field_high, rays.near,
                rays.far, rays.count, rays.offset[r],
            )  # fmt: skip
            spread_level(gradient, field.scale, field.shape, level, span, r, index, used, slopes)


@cache
def _order(levels: int, parts: int, device: torch.device) -> Tensor:
    """The levels in an order that gives coarse ones, which are quicker, to all parts."""
    return torch.tensor([n for part in range(parts) for n in range(part, levels, parts)], dtype=torch.int32).to(device)


@cache
def _levels(settings: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    table = torch.tensor(settings, dtype=torch.float64).view(-1, 5)
    return table[:, 0].float().contiguous().to(device), table[:, 1:].int().contiguous().to(device)


def fill(tensors: Sequence[Tensor], settings: Sequence[float]) -> Any:
    """The struct of a grid with its networks.

    Args:
        tensors: Entries [N, 2]; hidden and last layer of the density's network, then of the features'.
        settings: Number of levels in use; then of each level `scale` and `shape`.
    """
    scale, shape = _levels(tuple(settings[1:]), tensors[0].device)
    field = Field()
    field.entries = wp.from_torch(tensors[0].detach(), dtype=wp.vec2)
    field.scale, field.shape, field.active = wp.from_torch(scale), wp.from_torch(shape), int(settings[0])
    for name, tensor in zip(_NETWORKS, tensors[1:], strict=True):
        setattr(field, name, wp.from_torch(tensor.detach()))
    return field


_NETWORKS = ("density", "density_out", "feature", "feature_out")


def zeros(tensors: Sequence[Tensor], parts: int, rows: int, samples: int) -> tuple[Any, list[Tensor]]:
    """The struct of the gradients, and its tensors: the inputs', and the networks' together, [replicas, …]."""
    entries, *networks = tensors
    replicas = parts if entries.device.type == "cpu" else _REPLICAS
    inputs = entries.new_empty(rows, samples, networks[0].shape[1])
    together = entries.new_zeros(replicas, sum(tensor.numel() for tensor in networks))
    gradient = Gradient()
    gradient.inputs = wp.from_torch(inputs)
    parts_of_layers = together.split([tensor.numel() for tensor in networks], 1)
    for name, part, tensor in zip(_NETWORKS, parts_of_layers, networks, strict=True):
        setattr(gradient, name, wp.from_torch(part.unflatten(1, tensor.shape)))
    return gradient, [inputs, together]


def kept(tensors: Sequence[Tensor]) -> int:
    """Numbers kept of a sample: the networks' inputs."""
    return tensors[1].shape[1]


def collect(tensors: Sequence[Tensor], sums: list[Tensor], launch: Launch, rays: Any, field: Any, samples: Any):
    """The gradients of the entries, and of all layers side by side, from what the backward kernel has summed."""
    entries, inputs = torch.zeros_like(tensors[0]), sums[0]
    index, used = samples
    levels = int(field.active)
    order = _order(levels, torch.get_num_threads(), inputs.device)
    arguments = [wp.from_torch(x) for x in (order, index, used, inputs)]
    own = inputs.device.type != "cpu"
    into = wp.from_torch(entries, dtype=wp.vec2)
    tasks = levels * len(used) if own else levels
    launch(spread, tasks, inputs.device, lambda first, part: [rays, field, first, part, own, *arguments, into])
    return [entries, sums[1].sum(0)]


KERNELS = (spread,)
"""Kernels besides the two of every field."""
