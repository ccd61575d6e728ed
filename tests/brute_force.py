"""A rasteriser in plain PyTorch that tries every triangle at every pixel: the reference of `pullback.render.rasterise`.

Everything is differentiable by PyTorch's own rules, in the precision of the positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lines(pos: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """Lines of the edges opposite the corners, and (x, y, w) of the corners, [T, 3, 3] both, of positions [V, 4]."""
    corners = pos[tri.long()][..., [0, 1, 3]]
    return torch.linalg.cross(corners.roll(-1, 1), corners.roll(-2, 1)), corners


def centres(height: int, width: int, like: Tensor) -> Tensor:
    """(X, Y, 1) of the pixels, [H·W, 3]."""
    y = (2 * torch.arange(height).to(like) + 1) / height - 1
    x = (2 * torch.arange(width).to(like) + 1) / width - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).view(-1, 2)
    return torch.cat([grid, torch.ones_like(grid[:, :1])], -1)


@torch.no_grad()
def visible(pos: Tensor, tri: Tensor, height: int, width: int, at_once: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest triangle's number at each pixel, 0 where none is, its depth, and how many there are, [H·W] all.

    Of triangles at the same depth the first one wins.
    """
    edges, corners = lines(pos, tri)
    x = centres(height, width, pos)
    depth = torch.full((len(x),), torch.inf, dtype=pos.dtype)
    number, layers = torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.long)
    z = pos[tri.long()][..., 2]
    for start in range(0, len(tri), at_once):
        part = slice(start, start + at_once)
        area = (edges[part, 0] * corners[part, 0]).sum(-1)
        sided = edges[part] * area.sign()[:, None, None]
        e = sided @ x.T  # [t, 3, P]
        # a centre on an edge belongs to the triangle that has it after a tiny move right, and a tinier one up
        owned = (sided[..., 0] > 0) | ((sided[..., 0] == 0) & (sided[..., 1] > 0))
        inside = ((e > 0) | ((e == 0) & owned[..., None])).all(1)
        zw = (z[part, :, None] * sided).sum(1) / area.abs()[:, None] @ x.T
        inside &= (zw >= -1) & (zw <= 1) & (area != 0)[:, None]
        layers += inside.sum(0)
        nearest, which = zw.masked_fill(~inside, torch.inf).min(0)
        closer = nearest < depth
        number = torch.where(closer, which + start + 1, number)
        depth = torch.where(closer, nearest, depth)
    return number, depth, layers


def coordinates(pos: Tensor, tri: Tensor, number: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(u, v, z/w, number) and (∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y) of pixels that show these triangles, [H·W, 4] both."""
    shown = number > 0
    edges, _ = lines(pos, tri[(number[shown] - 1)])
    x = centres(height, width, pos)[shown]
    e = (edges * x[:, None]).sum(-1)
    whole, total = edges.sum(1), e.sum(1, keepdim=True)
    weights = e / total
    p = pos[tri[number[shown] - 1].long()]
    zw = (weights * p[..., 2]).sum(1) / (weights * p[..., 3]).sum(1)
    rast = torch.cat([weights[:, :2], zw[:, None].detach(), number[shown, None].to(pos)], 1)
    scale = torch.tensor([2 / width, 2 / height]).to(pos)
    slopes = (edges[:, :2, :2] - weights[:, :2, None] * whole[:, None, :2]) / total[..., None] * scale
    empty = pos.new_zeros(len(number), 4)
    return empty.index_put((shown,), rast), empty.index_put((shown,), slopes.flatten(1))


def blend(attr: Tensor, rast: Tensor, tri: Tensor, slopes: Tensor | None = None) -> Tensor:
    """Attributes [V, A] at the pixels [P, A], or with slopes their derivatives by x and y, [P, A, 2]."""
    number = rast[:, 3].long()
    a, b, c = attr[tri[(number - 1).clamp(min=0)].long()].unbind(1)
    shown = (number > 0).to(attr)[:, None]
    if slopes is None:
        u, v = rast[:, :1], rast[:, 1:2]
        return (u * a + v * b + (1 - u - v) * c) * shown
    by_u, by_v = slopes[:, None, :2], slopes[:, None, 2:]
    return (by_u * (a - c)[..., None] + by_v * (b - c)[..., None]) * shown[..., None]
