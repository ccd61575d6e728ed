"""Colours in front of a backdrop, in one launch, and their gradient in another."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .kernels import backdrop
from .launching import compile_kernels, launch


@cache
def load(device: torch.device) -> None:
    """Compiles the kernels for a device, or loads them from an earlier run's cache."""
    compile_kernels(backdrop.KERNELS, device)


@torch.library.custom_op("pullback::in_front", mutates_args=())
def in_front(sums: Tensor, behind: Tensor) -> Tensor:
    """What is seen: c + b (1 − α).

    Args:
        sums: [R, 6], float32, as `render` gives them: colour c, opacity α, and two more; differentiable.
        behind: b, [R, 3], float32; differentiable.

    Returns:
        [R, 3].
    """
    load(sums.device)
    colours = torch.empty_like(behind, memory_format=torch.contiguous_format)
    arrays = [wp.from_torch(x.detach()) for x in (sums, behind, colours)]
    launch(backdrop.forward, len(sums), sums.device, lambda first, part: [first, *arrays])
    return colours


@in_front.register_fake
def _(sums: Tensor, behind: Tensor) -> Tensor:
    return torch.empty_like(behind, memory_format=torch.contiguous_format)


@torch.library.custom_op("pullback::in_front_backward", mutates_args=())
def in_front_backward(sums: Tensor, behind: Tensor, gradient: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The gradients of the sums, and of what is behind, or [0, 3] if not wanted; see `in_front`."""
    by_sums, by_behind = _gradients(sums, behind, gradient, wanted)
    arrays = [wp.from_torch(x.detach()) for x in (sums, behind, gradient, by_sums, by_behind)]
    launch(backdrop.backward, len(sums), sums.device, lambda first, part: [first, *arrays, wanted])
    return by_sums, by_behind


@in_front_backward.register_fake
def _gradients(sums: Tensor, behind: Tensor, gradient: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(sums), behind.new_empty(len(behind) if wanted else 0, 3)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    sums, behind = ctx.saved_tensors
    wanted = ctx.needs_input_grad[1]
    by_sums, by_behind = in_front_backward(sums, behind, gradient.contiguous(), wanted)
    return by_sums, by_behind if wanted else None


in_front.register_autograd(_gradient, setup_context=_setup)
