"""nerfacc's functions of values along rays, in PyTorch: packing, running sums and products, sampling.

Values of all rays lie one after the other, [N]; packed_info [R, 2] holds each ray's first place and its count.
Signatures and meaning are nerfacc's (0.5.2 and 0.5.3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from nerfacc.data_specs import RayIntervals, RaySamples
from torch import Tensor


@torch.no_grad()
def pack_info(ray_indices: Tensor, n_rays: int | None = None) -> Tensor:
    """First place and count of each ray, [R, 2] int64, from the ray of each sample [N], in ascending order."""
    counts = torch.bincount(ray_indices, minlength=n_rays or 0)
    return torch.stack([counts.cumsum(0) - counts, counts], -1)


def _scan(along: Callable[[Tensor, int], Tensor], neutral: float, exclusive: bool) -> Callable[..., Tensor]:
    def scan(inputs: Tensor, packed_info: Tensor | None = None) -> Tensor:
        dense, filled = inputs, None
        if packed_info is not None:
            # one row per ray: a sum over all rays together would lose digits, and carry an infinity to the next ray
            counts = packed_info[:, 1]
            width = int(counts.max()) if len(counts) else 0
            filled = torch.arange(width, device=counts.device) < counts[:, None]
            dense = inputs.new_full(filled.shape, neutral).masked_scatter(filled, inputs)
        if exclusive:
            first = torch.full_like(dense[..., :1], neutral)
            dense = torch.cat([first, dense[..., :-1]], -1)
        scanned = along(dense, -1)
        return scanned if filled is None else scanned[filled]

    return scan


# (inputs [N], packed_info) or (inputs [..., S]) → the same shape; differentiable any number of times
inclusive_sum = _scan(torch.cumsum, 0.0, exclusive=False)
exclusive_sum = _scan(torch.cumsum, 0.0, exclusive=True)
inclusive_prod = _scan(torch.cumprod, 1.0, exclusive=False)
exclusive_prod = _scan(torch.cumprod, 1.0, exclusive=True)


def _search(edges: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the edges on both sides, edges[left] ≤ value < edges[right]; outside, the nearest edge twice."""
    right = torch.searchsorted(edges.contiguous(), values.contiguous(), right=True)
    last = edges.shape[-1] - 1
    return (right - 1).clamp(0, last), right.clamp(max=last)


def searchsorted(
    sorted_sequence: RayIntervals | RaySamples, values: RayIntervals | RaySamples
) -> tuple[Tensor, Tensor]:
    """For each value [R, S] the places [R, S] of its neighbours in the ray's sorted sequence [R, E]."""
    _check_dense(sorted_sequence.vals, values.vals)
    return _search(sorted_sequence.vals, values.vals)


@torch.no_grad()
def importance_sampling(
    intervals: RayIntervals, cdfs: Tensor, n_intervals_per_ray: int, stratified: bool = False
) -> tuple[RayIntervals, RaySamples]:
    """Inverse transform sampling: n samples a ray, evenly spaced in the cdf, and intervals around them.

    Args:
        intervals: edges [R, E].
        cdfs: [R, E] at the edges.
        n_intervals_per_ray: n.
        stratified: shift each ray's samples together by a random part of their spacing, not by half of it.

    Returns:
        Intervals with edges [R, n+1], half-way between samples and never beyond the given ones; samples [R, n].
    """
    edges, n = intervals.vals, n_intervals_per_ray
    if isinstance(n, Tensor):
        raise NotImplementedError("importance_sampling on a CPU takes one number of samples for all rays")
    _check_dense(edges, cdfs)
    shift = torch.rand_like(cdfs[..., :1]) if stratified else 0.5
    at = (torch.arange(n, dtype=cdfs.dtype, device=cdfs.device) + shift) / n
    low, high = cdfs[..., :1], cdfs[..., -1:]
    u = low + at * (high - low)
    left, right = _search(cdfs, u)
    cdf0, cdf1 = cdfs.gather(-1, left), cdfs.gather(-1, right)
    t0, t1 = edges.gather(-1, left), edges.gather(-1, right)
    flat = cdf1 - cdf0 < 1e-10
    part = torch.where(flat, 0.5, (u - cdf0) / (cdf1 - cdf0).masked_fill(flat, 1))
    samples = t0 + part * (t1 - t0)
    middles = (samples[..., 1:] + samples[..., :-1]) / 2
    if n == 1:
        ends = edges[..., :1], edges[..., -1:]
    else:
        ends = 2 * samples[..., :1] - middles[..., :1], 2 * samples[..., -1:] - middles[..., -1:]
    new = torch.cat([ends[0].maximum(edges[..., :1]), middles, ends[1].minimum(edges[..., -1:])], -1)
    return RayIntervals(vals=new), RaySamples(vals=samples)


def _check_dense(*tensors: Tensor) -> None:
    if any(t.ndim < 2 for t in tensors):
        raise NotImplementedError("on a CPU, nerfacc's sampling takes rays with the same number of edges, [R, E]")
