"""Processes of torch.distributed that make one sample: who has which part of the work, and how all get the whole.

Every process makes the same draws and holds the same parameters. Each computes its part of an expensive function; all
get the values of the whole, and gradients as if they had computed it, so that nothing else depends on their number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor

from .render.backends import is_transformed

dist = cast(Any, torch.distributed)  # its calls are not typed


def count() -> int:
    """How many processes make the sample; 1 where torch.distributed has no default group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if count() > 1 else 0


def shared() -> bool:
    """Whether work can be shared out now: no transform of torch.func runs, whose tensors no other process can get."""
    return count() > 1 and not is_transformed()


def bounds(rows: int, group: int = 1) -> list[int]:
    """Where the processes' parts of `rows` rows begin, and the end of the last; groups of rows stay together."""
    groups = -(-rows // group)
    return [min(rows, group * (groups * number // count())) for number in range(count() + 1)]


def own(rows: int, group: int = 1) -> slice:
    """This process's part of `rows` rows, which may be empty."""
    return slice(*bounds(rows, group)[rank() : rank() + 2])


@torch.no_grad()
def gathered(mine: Tensor, rows: int, group: int = 1) -> Tensor:
    """All rows [rows,...], of which each process gives its own part [k,...]; without gradients."""
    places = bounds(rows, group)
    most = max(end - start for start, end in itertools.pairwise(places))
    padded = mine.new_zeros(most, *mine.shape[1:])
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(parts, padded)
    return torch.cat(
        [part[: end - start] for part, (start, end) in zip(parts, itertools.pairwise(places), strict=True)]
    )


def of_parameters(mine: Tensor, rows: int, parameters: Sequence[Tensor]) -> Tensor:
    """All rows of a function of parameters that all processes hold; a gradient of them is the sum over processes.

    Args:
        mine: This process's rows [k,...], k at least 1, with their graph.
        rows: Rows of all processes.
        parameters: The leaves that get gradients, in the same order everywhere.

    Returns:
        [rows,...], the same in every process.
    """
    whole = gathered(mine, rows)
    return cast(Any, _OfParameters).apply(whole, [mine], own(rows), *parameters) if mine.requires_grad else whole


def of_rows(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """All rows of a function that maps each row of a tensor by itself, each computed by one process.

    Args:
        function: [k,...] -> [k,...].
        inputs: The tensor [V,...] that all processes hold, V at least their number; it may need gradients.
    """
    part = inputs[own(len(inputs))]
    if not (torch.is_grad_enabled() and inputs.requires_grad):
        return gathered(function(part), len(inputs))
    part = part.detach().requires_grad_()
    mine = function(part)
    return cast(Any, _OfRows).apply(gathered(mine, len(inputs)), [mine, part], inputs)


class _OfParameters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, mine: list[Tensor], rows: slice, *parameters: Tensor) -> Tensor:
        ctx.mine, ctx.rows, ctx.parameters = *mine, rows, parameters  # in a list autograd does not see its graph
        return whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad: Any = torch.autograd.grad
        found: list[Tensor | None] = grad(ctx.mine, ctx.parameters, slope[ctx.rows], allow_unused=True)
        used = [gradient for gradient in found if gradient is not None]  # the same ones in every process
        flat = torch.cat([gradient.reshape(-1) for gradient in used])
        dist.all_reduce(flat)
        pieces = iter(torch.split(flat, [gradient.numel() for gradient in used]))
        return None, None, None, *(None if g is None else next(pieces).view_as(g) for g in found)


class _OfRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, mine: list[Tensor], inputs: Tensor) -> Tensor:
        ctx.mine, ctx.part, ctx.rows = *mine, len(inputs)
        return whole

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (found,) = cast(Any, torch.autograd.grad)(ctx.mine, ctx.part, slope[own(ctx.rows)])
        return None, None, gathered(found, ctx.rows)
