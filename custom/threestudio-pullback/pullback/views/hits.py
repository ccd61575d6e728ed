"""Where rays meet triangles, by trying all pairs: on any device and in any precision, for some thousands of them."""

from __future__ import annotations

import torch
from torch import Tensor

PAIRS = 2**22
"""Rays × triangles that are tried at a time."""


def first_hit(origins: Tensor, directions: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """The first triangle that each ray meets; both sides of a triangle are seen.

    The test is that of Möller and Trumbore 1997, written as products of each ray's line (o × d, d) with six numbers of
    each triangle. A triangle without an area is met by nothing.

    Args:
        origins: o [..., 3].
        directions: d [..., 3], of any length.
        triangles: Corners [T, 3, 3], T at least 1.

    Returns:
        The triangle's number [...] int64, -1 where there is none; and the place on it as weights of its corners
        [..., 3], which sum to 1.
    """
    shape = directions.shape[:-1]
    o, d = origins.expand_as(directions).reshape(-1, 3), directions.reshape(-1, 3)
    size = max(1, PAIRS // max(1, len(triangles)))
    parts = [_nearest(o[i : i + size], d[i : i + size], triangles) for i in range(0, len(d), size)]
    number, u, v = (torch.cat([part[k] for part in parts]) for k in range(3))
    u, v = u.clamp(0, 1), v.clamp(0, 1)
    over = (u + v).clamp(min=1)
    u, v = u / over, v / over
    return number.view(shape), torch.stack([1 - u - v, u, v], -1).view(*shape, 3)


def _nearest(o: Tensor, d: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, u and v [N] of the nearest triangle of rays [N, 3]."""
    line = torch.cat([torch.cross(o, d, dim=1), d], 1)
    nearest = torch.full_like(d[:, 0], torch.inf)
    number, best_u, best_v = torch.full_like(nearest, -1, dtype=torch.long), nearest, nearest
    slack = torch.finfo(d.dtype).eps ** 0.5  # so that no ray slips through between two triangles
    size = max(1, PAIRS // max(1, len(d)))
    for start in range(0, len(triangles), size):
        part = triangles[start : start + size]
        a, ab, ac = part[:, 0], part[:, 1] - part[:, 0], part[:, 2] - part[:, 0]
        normal = torch.cross(ab, ac, dim=1)
        below = -(d @ normal.T)
        u = line @ torch.cat([ac, -torch.cross(ac, a, dim=1)], 1).T / below
        v = line @ torch.cat([-ab, torch.cross(ab, a, dim=1)], 1).T / below
        far = (o @ normal.T - (a * normal).sum(1)) / below
        met = (u >= -slack) & (v >= -slack) & (u + v <= 1 + slack) & (far > 0)
        distance, index = torch.where(met, far, torch.inf).min(1)
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        number = torch.where(closer, index + start, number)
        best_u = torch.where(closer, u.gather(1, index[:, None])[:, 0], best_u)
        best_v = torch.where(closer, v.gather(1, index[:, None])[:, 0], best_v)
    return number, best_u.nan_to_num(0, 0, 0), best_v.nan_to_num(0, 0, 0)
