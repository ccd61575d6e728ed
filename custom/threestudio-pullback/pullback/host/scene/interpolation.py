"""Weighted sums of table rows, which hash grids and voxel grids are made of; fast on a CPU, with all derivatives.

With rows r = index[n, k], everything here is a partial derivative of one trilinear form,

    Φ(table, weight, out) = Σ_n Σ_k Σ_f  weight[n, k] · out[n, f] · table[index[n, k], f],

so the three functions below are each other's derivatives, to any order: `gather` = ∂Φ/∂out, `_Scatter` =
∂Φ/∂table, `_Dot` = ∂Φ/∂weight. PyTorch's own ways are 5 to 30 times slower on a CPU in the backward pass
(`embedding_bag`, `index_put`), or have neither second nor forward-mode derivatives (`grid_sample` in 3D).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


def gather(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """out[n, f] = Σ_k weight[n, k] · table[index[n, k], f].

    Args:
        table: [T, F] rows.
        index: [N, K] int32 or int64, in [0, T).
        weight: [N, K], the table's dtype.

    Returns:
        [N, F]. Differentiable in table and weight, any number of times, and in forward mode.
    """
    return _Gather.apply(table, index, weight)  # type: ignore[no-any-return]


class _Gather(Function):
    @staticmethod
    def forward(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, None, Tensor | None]:  # type: ignore[override]
        table, index, weight = ctx.saved_tensors
        by_table = _Scatter.apply(out, index, weight, len(table)) if ctx.needs_input_grad[0] else None
        by_weight = _Dot.apply(table, index, out) if ctx.needs_input_grad[2] else None
        return by_table, None, by_weight

    @staticmethod
    def jvp(ctx: Any, d_table: Tensor | None, _: None, d_weight: Tensor | None) -> Tensor:  # type: ignore[override]
        table, index, weight = ctx.saved_tensors
        parts = []
        if d_table is not None:
            parts.append(_Gather.apply(d_table, index, weight))
        if d_weight is not None:
            parts.append(_Gather.apply(table, index, d_weight))
        return sum(parts[1:], parts[0])


class _Scatter(Function):
    """table[t, f] = Σ over (n, k) with index[n, k] = t of weight[n, k] · out[n, f]."""

    @staticmethod
    def forward(out: Tensor, index: Tensor, weight: Tensor, rows: int) -> Tensor:
        table = out.new_zeros(out.shape[1], rows)
        flat, product = index.reshape(-1), torch.empty_like(weight)
        # one feature at a time: index_add_ is several times faster on vectors than on rows
        for feature, column in zip(table, out.unbind(1), strict=True):
            torch.mul(weight, column[:, None], out=product)
            feature.index_add_(0, flat, product.view(-1))
        return table.t().contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, table: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:  # type: ignore[override]
        out, index, weight = ctx.saved_tensors
        by_out = _Gather.apply(table, index, weight) if ctx.needs_input_grad[0] else None
        by_weight = _Dot.apply(table, index, out) if ctx.needs_input_grad[2] else None
        return by_out, None, by_weight, None


class _Dot(Function):
    """weight[n, k] = Σ_f table[index[n, k], f] · out[n, f]."""

    @staticmethod
    def forward(table: Tensor, index: Tensor, out: Tensor) -> Tensor:
        rows = table.index_select(0, index.reshape(-1)).view(*index.shape, table.shape[1])
        with torch.autocast(table.device.type, enabled=False):  # which would halve the precision of this one function
            return torch.bmm(rows, out[:, :, None])[..., 0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, None, Tensor | None]:  # type: ignore[override]
        table, index, out = ctx.saved_tensors
        by_table = _Scatter.apply(out, index, weight, len(table)) if ctx.needs_input_grad[0] else None
        by_out = _Gather.apply(table, index, weight) if ctx.needs_input_grad[2] else None
        return by_table, None, by_out


def corner_weights(low: list[Tensor], high: list[Tensor]) -> Tensor:
    """Products over all choices of one entry per axis, the first axis changing fastest.

    Args:
        low: per axis [N], the weights of the lower neighbour.
        high: per axis [N], the weights of the upper neighbour.

    Returns:
        [N, 2^D] for D axes.
    """
    products = [low[-1], high[-1]]
    for a, b in zip(reversed(low[:-1]), reversed(high[:-1]), strict=True):
        products = [p * q for p in products for q in (a, b)]
    return torch.stack(products, -1)


def lookup_voxels(grid: Tensor, points: Tensor) -> Tensor:
    """Trilinear interpolation in a voxel grid, zero outside: `F.grid_sample` with align_corners=False.

    Args:
        grid: [1, F, G3, G2, G1], at least 2 voxels a side; fastest with memory format channels_last_3d.
        points: [N, 3] (x, y, z) in [0, 1]; x runs along G1, z along G3. Voxel i has its centre at (i + ½)/G.

    Returns:
        [N, F].
    """
    low, high = [], []
    first = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    corners = torch.arange(8, dtype=torch.int32, device=points.device)  # x changes fastest
    offsets, stride = torch.zeros_like(corners), 1
    for axis, size in enumerate(grid.shape[:1:-1]):  # x, y, z
        position = points[:, axis] * size - 0.5
        lower = position.detach().floor().clamp(0, size - 2)
        fraction = position - lower  # below 0 and above 1 in the outermost half voxels, where it fades out
        low.append(torch.where(fraction < 0, 1 + fraction, 1 - fraction).clamp(min=0))
        high.append(torch.where(fraction > 1, 2 - fraction, fraction).clamp(min=0))
        first += lower.to(torch.int32) * stride
        offsets += (corners >> axis & 1) * stride
        stride *= size
    index = first[:, None] + offsets
    table = grid.permute(0, 2, 3, 4, 1).reshape(-1, grid.shape[1])
    return gather(table, index, corner_weights(low, high).to(table.dtype))
