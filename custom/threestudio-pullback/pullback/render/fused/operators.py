"""The fused kernels as operators of PyTorch: `march` renders rays, and its gradient calls the backward kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor

from ..field import Corner
from . import backdrop
from .kernels.activations import CHANNELS
from .kernels.compositing import STATE
from .kernels.marching import Rays, kernels
from .launching import compile_kernels, launch, part_count

SUMS = 6
"""Numbers of a ray: colour, opacity, depth, spread of the depth."""


class Medium(NamedTuple):
    """What a march is through, besides the field: plain numbers, see `Rays`."""

    low: Corner
    high: Corner
    field_low: Corner
    field_high: Corner
    near: float
    far: float
    count: int
    stop: float
    bias: float
    blob: int
    scale: float
    std: float
    kind: int
    colour: int

    def pack(self) -> list[float]:
        """All numbers in one list, which an operator can take."""
        return [x for corner in self[:4] for x in corner] + [float(x) for x in self[4:]]

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> Medium:
        """The inverse of `pack`."""
        near, far, count, stop, bias, blob, scale, std, kind, colour = numbers[12:]
        corners: list[Any] = [tuple(numbers[i : i + 3]) for i in (0, 3, 6, 9)]
        low, high, field_low, field_high = corners
        rest = near, far, int(count), stop, bias, int(blob), scale, std, int(kind), int(colour)
        return cls(low, high, field_low, field_high, *rest)


@cache
def _kernels(field: str) -> tuple[Any, Any, Any]:
    module = import_module(f"{__package__}.kernels.{field}")
    return module, *kernels(module)


@cache
def load(field: str, device: torch.device) -> tuple[Any, Any, Any]:
    """A field's module, forward and backward kernel; all that a render needs is compiled, or read from a cache."""
    module, forward, backward = _kernels(field)
    compile_kernels((forward, backward, *module.KERNELS), device)
    backdrop.load(device)
    return module, forward, backward


def _rays(origins: Tensor, directions: Tensor, offset: Tensor, occupied: Tensor, least: Tensor, medium: Medium) -> Any:
    rays = Rays()
    rays.origins, rays.directions = wp.from_torch(origins, dtype=wp.vec3), wp.from_torch(directions, dtype=wp.vec3)
    rays.offset, rays.least = wp.from_torch(offset), wp.from_torch(least)
    rays.occupied, rays.cells = wp.from_torch(occupied), len(occupied)
    for name in ("low", "high", "field_low", "field_high"):
        setattr(rays, name, wp.vec3d(*getattr(medium, name)))
    for name in ("near", "far", "count", "stop", "bias", "blob", "scale", "std", "kind", "colour"):
        setattr(rays, name, getattr(medium, name))
    return rays


def _scratch(origins: Tensor, module: Any) -> list[Any]:
    """Workspace and state, with a slot for each thread."""
    slots = part_count(origins.device) if origins.device.type == "cpu" else len(origins)
    workspace = origins.new_empty(slots, module.WORKSPACE)
    return [wp.from_torch(x) for x in (workspace, origins.new_empty(slots, STATE, dtype=torch.float64))]


@torch.library.custom_op("pullback::march", mutates_args=())
def march(
    field: str,
    tensors: Sequence[Tensor],
    settings: Sequence[float],
    origins: Tensor,
    directions: Tensor,
    offset: Tensor,
    occupied: Tensor,
    least: Tensor,
    medium: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Renders rays.

    Args:
        field: A module in `kernels`.
        tensors: Its parameters, float32; differentiable.
        settings: Its numbers.
        origins: [R, 3], float32.
        directions: [R, 3], unit vectors. Rows of both may lie apart, as in a table of rays.
        offset: [R], in [0, 1): where samples lie in their intervals.
        occupied: [n, n, n], bool; n is 0 where no cell is known to be empty.
        least: [1], the least opacity of a sample, or [0].
        medium: `Medium.pack`.
        keep: Whether a gradient is needed.

    Returns:
        Sums [R, 6]; then what the gradient needs: numbers of the samples, their intervals, how many they are, and what
        the field keeps of them.
    """
    numbers, count, device = Medium.unpack(medium), len(origins), origins.device
    module, forward, _ = load(field, device)
    own = device.type != "cpu"
    rows = count if keep or own else part_count(device)
    saved = origins.new_empty(rows, CHANNELS, numbers.count)
    index = torch.empty(rows, numbers.count, dtype=torch.int16, device=device)
    used = torch.empty(rows, dtype=torch.int32, device=device)
    kept = origins.new_empty(rows, numbers.count, module.kept(tensors))
    sums = origins.new_empty(count, SUMS)
    scratch = _scratch(origins, module)
    rays = _rays(origins, directions, offset, occupied, least, numbers)
    arguments = [rays, module.fill(tensors, settings)]
    outputs = [wp.from_torch(x) for x in (saved, index, used, kept, sums)]
    launch(forward, count, device, lambda first, part: [*arguments, first, part, *scratch, own, keep, *outputs])
    return sums, saved, index, used, kept


@march.register_fake
def _(
    field: str, tensors: Sequence[Tensor], settings: Sequence[float], origins: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    *_, medium, keep = rest
    count, samples, device = len(origins), Medium.unpack(medium).count, origins.device
    rows = count if keep or device.type != "cpu" else part_count(device)
    index = origins.new_empty(rows, samples, dtype=torch.int16)
    used = origins.new_empty(rows, dtype=torch.int32)
    kept = origins.new_empty(rows, samples, _kernels(field)[0].kept(tensors))
    return origins.new_empty(count, SUMS), origins.new_empty(rows, CHANNELS, samples), index, used, kept


@torch.library.custom_op("pullback::march_backward", mutates_args=())
def march_backward(
    field: str,
    tensors: Sequence[Tensor],
    settings: Sequence[float],
    origins: Tensor,
    directions: Tensor,
    offset: Tensor,
    medium: Sequence[float],
    saved: Tensor,
    index: Tensor,
    used: Tensor,
    kept: Tensor,
    sums: Tensor,
    gradient: Tensor,
) -> list[Tensor]:
    """The gradients of the tensors, from that of the sums [R, 6]; the other arguments are those of `march`.

    Returns:
        That of the first tensor, and those of all others in one vector [n].
    """
    count, device = len(origins), origins.device
    module, _, backward = load(field, device)
    parts, own = part_count(device), device.type != "cpu"
    into, gradients = module.zeros(tensors, parts, *index.shape)
    scratch = _scratch(origins, module)
    nothing = origins.new_empty(0, 0, 0, dtype=torch.bool)
    rays = _rays(origins, directions, offset, nothing, offset[:0], Medium.unpack(medium))
    arguments = [rays, module.fill(tensors, settings), into]
    inputs = [wp.from_torch(x.detach()) for x in (saved, index, used, kept, sums, gradient)]
    launch(backward, count, device, lambda first, part: [*arguments, first, part, *scratch, own, *inputs])
    return module.collect(tensors, gradients, launch, rays, arguments[1], (index.detach(), used.detach()))


@march_backward.register_fake
def _(field: str, tensors: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(tensors[0]), tensors[0].new_empty(sum(x.numel() for x in tensors[1:]))]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    field, tensors, settings, origins, directions, offset, _, _, medium, _ = inputs
    ctx.plain = field, settings, medium
    ctx.save_for_backward(origins, directions, offset, *output, *tensors)
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Any, ...]:
    field, settings, medium = ctx.plain
    origins, directions, offset, sums, saved, index, used, kept, *tensors = ctx.saved_tensors
    if gradient is None:
        return (None,) * 10
    first, others = march_backward(
        field,
        tensors,
        settings,
        origins,
        directions,
        offset,
        medium,
        saved,
        index,
        used,
        kept,
        sums,
        gradient.contiguous(),
    )
    parts = others.split([x.numel() for x in tensors[1:]])
    gradients = [first, *(part.view_as(x) for part, x in zip(parts, tensors[1:], strict=True))]
    return None, gradients, *(None,) * 8


march.register_autograd(_gradient, setup_context=_setup)
