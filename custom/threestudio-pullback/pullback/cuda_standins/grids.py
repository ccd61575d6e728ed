"""nerfacc's march through occupancy grids, in PyTorch, all rays at a time. Signature and meaning are nerfacc's."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from nerfacc import grid
from nerfacc.data_specs import RayIntervals, RaySamples
from torch import Tensor

ray_aabb_intersect = torch.no_grad()(grid._ray_aabb_intersect)  # nerfacc's own, for any device

_RETURNS_ENDS = "traverse_steps_limit" in inspect.signature(grid.traverse_grids).parameters  # since nerfacc 0.5.3
_AT_ONCE = 2**21  # places looked up at a time


@torch.no_grad()
def traverse_grids(
    rays_o: Tensor,
    rays_d: Tensor,
    binaries: Tensor,
    aabbs: Tensor,
    near_planes: Tensor | None = None,
    far_planes: Tensor | None = None,
    step_size: float = 1e-3,
    cone_angle: float = 0.0,
    traverse_steps_limit: int | None = None,
    over_allocate: bool = False,
    rays_mask: Tensor | None = None,
    t_sorted: Tensor | None = None,
    t_indices: Tensor | None = None,
    hits: Tensor | None = None,
) -> Any:
    """Equal intervals along rays, those whose middles lie in occupied cells.

    A ray is cut into [near + k·step, near + (k+1)·step], k = 0, 1, …; an interval counts if its middle lies before
    the far plane and in an occupied cell of the first grid that contains it.

    Args:
        rays_o: [R, 3] origins.
        rays_d: [R, 3] unit directions.
        binaries: [G, X, Y, Z] bool, which cells are occupied.
        aabbs: [G, 6], each grid's lower and upper corner.
        near_planes: [R]; None stands for 0.
        far_planes: [R]; None stands for ∞.
        step_size: above 0.
        cone_angle: must be 0.
        traverse_steps_limit: largest number of intervals of a ray; the first ones count.
        over_allocate: must be False.
        rays_mask: [R] bool, rays to march along.
        t_sorted: not used; saves time on CUDA.
        t_indices: not used; saves time on CUDA.
        hits: not used; saves time on CUDA.

    Returns:
        RayIntervals (neighbours share an edge), RaySamples with their middles, and, as nerfacc does since 0.5.3, the
        distance [R] at which each ray's march ended.

    Raises:
        NotImplementedError: another value of step_size, cone_angle or over_allocate.
    """
    if cone_angle != 0 or step_size <= 0 or over_allocate:
        raise NotImplementedError(
            "on a CPU, nerfacc's grids are marched with a step_size above 0, cone_angle=0 and over_allocate=False"
        )
    near = torch.zeros_like(rays_o[:, 0]) if near_planes is None else near_planes
    far = torch.full_like(near, torch.inf) if far_planes is None else far_planes
    enter, leave, hit = ray_aabb_intersect(rays_o, rays_d, aabbs)
    enter = enter.masked_fill(~hit, torch.inf).amin(1).maximum(near)
    leave = leave.masked_fill(~hit, -torch.inf).amax(1).minimum(far)
    if rays_mask is not None:
        leave = leave.masked_fill(~rays_mask, -torch.inf)
    # the first interval with its middle inside, and how many there are
    first = ((enter - near) / step_size - 0.5).ceil().clamp(min=0).nan_to_num(posinf=0)
    start = near + first * step_size
    count = ((leave - start) / step_size - 0.5).ceil().clamp(min=0).long()
    most = int(count.max()) if len(count) else 0
    at_once = max(1, _AT_ONCE // max(most, 1))
    parts = [
        _march(o, d, s, n, binaries, aabbs, step_size, traverse_steps_limit)
        for o, d, s, n in zip(
            rays_o.split(at_once), rays_d.split(at_once), start.split(at_once), count.split(at_once), strict=True
        )
    ]
    edges, left, right, per_ray, ends = (torch.cat(x) for x in zip(*parts, strict=True))
    packed_edges, packed_samples = (torch.stack([n.cumsum(0) - n, n], -1) for n in per_ray.unbind(1))
    rays = torch.arange(len(near), device=near.device)
    intervals = RayIntervals(edges, packed_edges, rays.repeat_interleave(per_ray[:, 0]), left, right)
    middles = (edges[left] + edges[right]) / 2
    ray_indices = rays.repeat_interleave(per_ray[:, 1])
    samples = RaySamples(middles, packed_samples, ray_indices)
    return (intervals, samples, ends) if _RETURNS_ENDS else (intervals, samples)


def _march(
    origins: Tensor,
    directions: Tensor,
    start: Tensor,
    count: Tensor,
    binaries: Tensor,
    aabbs: Tensor,
    step: float,
    limit: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Edges [M], whether left, whether right edge [M]; edges and samples of each ray [R, 2]; end of each ray [R]."""
    k = torch.arange(int(count.max()) if len(count) else 0, device=start.device)
    valid = k < count[:, None]
    if not bool(binaries.all()):
        middles = start[:, None] + (k + 0.5) * step
        valid &= _occupied(origins, directions, middles, binaries, aabbs)
    end = start + count * step
    if limit is not None and limit > 0:
        reached = valid.cumsum(1)
        full = reached[:, -1:] >= limit if len(k) else valid.any(1, keepdim=True)
        last = (reached < limit).sum(1) + 1  # intervals up to and with the last that counts
        end = torch.where(full[:, 0], start + last * step, end)
        valid &= reached <= limit
    no = valid.new_zeros(len(valid), 1)
    left, right = torch.cat([valid, no], 1), torch.cat([no, valid], 1)
    there = left | right
    edges = start[:, None] + torch.arange(len(k) + 1, device=start.device) * step
    per_ray = torch.stack([there.sum(1), valid.sum(1)], 1)
    return edges[there], left[there], right[there], per_ray, end


def _occupied(origins: Tensor, directions: Tensor, t: Tensor, binaries: Tensor, aabbs: Tensor) -> Tensor:
    """Whether o + t·d, t [R, K], lies in an occupied cell of the first grid that contains it."""
    occupied = torch.zeros_like(t, dtype=torch.bool)
    for cells, (low, high) in zip(reversed(binaries.unbind()), reversed(aabbs.view(-1, 2, 3).unbind()), strict=True):
        index, inside = torch.zeros_like(t, dtype=torch.int32), torch.ones_like(occupied)
        for axis, n in enumerate(cells.shape):
            scale = n / (high[axis] - low[axis])
            place = torch.addcmul(
                ((origins[:, axis] - low[axis]) * scale)[:, None], t, (directions[:, axis] * scale)[:, None]
            )
            if len(binaries) > 1:
                inside &= (place >= 0) & (place <= n)
            index = index * n + place.to(torch.int32).clamp_(0, n - 1)
        occupied = torch.where(inside, cells.reshape(-1)[index], occupied)
    return occupied
