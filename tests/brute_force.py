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
def visible(pos: Tensor, tri: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest triangle's number at each pixel, 0 where none is, its depth, and how many there are, [H·W] all.

    Of triangles at the same depth the first one wins. Single precision leaves cracks between triangles.
    """
    edges, corners = lines(pos, tri)
    area = (edges[:, 0] * corners[:, 0]).sum(-1)
    sided, x = edges * area.sign()[:, None, None], centres(height, width, pos)
    # a centre on an edge belongs to the triangle that has it after a tiny move right, and a tinier one up
    owned = (sided[..., 0] > 0) | ((sided[..., 0] == 0) & (sided[..., 1] > 0))
    least = torch.where(owned, 0, torch.nextafter(pos.new_zeros(()), pos.new_ones(())))[..., None]
    plane = (pos[tri.long()][..., 2, None] * sided).sum(1) / area.abs()[:, None]
    depth = torch.full((len(x),), torch.inf, dtype=pos.dtype)
    number, layers = torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.long)
    for p in range(0, len(x), 2048):  # what fits into a cache
        pixels = slice(p, p + 2048)
        for t in range(0, len(tri), 64):
            part = slice(t, t + 64)
            inside = (sided[part] @ x[pixels].T >= least[part]).all(1)
            zw = plane[part] @ x[pixels].T
            inside &= (zw.abs() <= 1) & (area[part] != 0)[:, None]
            layers[pixels] += inside.sum(0)
            nearest, which = zw.masked_fill_(~inside, torch.inf).min(0)
            closer = nearest < depth[pixels]
            number[pixels] = torch.where(closer, which + t + 1, number[pixels])
            depth[pixels] = torch.minimum(nearest, depth[pixels])
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


def opposite(tri: Tensor) -> Tensor:
    """The corner of the triangle on the other side of the edge opposite each corner, -1 for none, [T, 3]."""
    sides: dict[frozenset[int], list[int]] = {}
    for corners in tri.tolist():
        for k in range(3):
            sides.setdefault(frozenset(corners) - {corners[k]}, []).append(corners[k])
    return torch.tensor([
        [next((o for o in sides[frozenset(c) - {c[k]}] if o != c[k]), -1) for k in range(3)] for c in tri.tolist()
    ])  # fmt: skip


def smooth(colour: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, others: Tensor) -> Tensor:
    """A picture [H, W, C] with smooth silhouettes, of positions [V, 4] with w > 0, by the geometry in the plane."""
    height, width, _ = colour.shape
    screen = (pos[:, :2] / pos[:, 3:] + 1) / 2 * torch.tensor([width, height]).to(pos) - 0.5
    tri, number, flat = tri.long(), rast[..., 3].long(), colour.reshape(-1, colour.shape[2])
    place = torch.arange(height * width).view(height, width)
    changes = torch.zeros_like(flat)
    for axis, (first, second) in enumerate([(place[:, :-1], place[:, 1:]), (place[:-1], place[1:])]):
        first, second = first.reshape(-1), second.reshape(-1)
        one, two = number.view(-1)[first], number.view(-1)[second]
        first, second = first[one != two], second[one != two]
        one, two = number.view(-1)[first], number.view(-1)[second]
        z = rast[..., 2].reshape(-1)
        is_first = (one > 0) & ((two == 0) | (z[first] < z[second]))
        inner, outer = torch.where(is_first, first, second), torch.where(is_first, second, first)
        shown = number.view(-1)[inner] - 1
        centre = torch.stack([inner % width, inner // width], 1).to(pos)
        ends = (screen[tri[shown]] - centre[:, None]) * torch.where(is_first, 1, -1)[:, None, None]
        p, q = ends[..., axis], ends[..., 1 - axis]  # along the way to the neighbour, and across it
        p1, q1, p2, q2 = p.roll(-1, 1), q.roll(-1, 1), p.roll(-2, 1), q.roll(-2, 1)
        crossed = (q1 > 0) != (q2 > 0)
        t = torch.where(crossed, p1 + q1 / torch.where(crossed, q1 - q2, 1) * (p2 - p1), -torch.inf)
        edge = t.max(1).indices[:, None]
        steep = ((q2 - q1).abs() >= (p2 - p1).abs()).gather(1, edge)[:, 0]
        a, b, c = (screen[tri[shown]].gather(1, (edge + k)[..., None].expand(-1, 1, 2) % 3)[:, 0] for k in range(3))
        beyond = others[shown].gather(1, edge)[:, 0]
        d = screen[beyond.clamp(min=0)]
        turn = ((c - b)[:, 0] * (a - b)[:, 1] - (c - b)[:, 1] * (a - b)[:, 0]) * (
            (c - b)[:, 0] * (d - b)[:, 1] - (c - b)[:, 1] * (d - b)[:, 0]
        )
        t = t.gather(1, edge)[:, 0]
        found = steep & (t <= 1) & ((beyond < 0) | (turn >= 0))
        share, inner, outer = 0.5 - t[found], inner[found], outer[found]
        difference = flat[outer] - flat[inner]
        changed = torch.where(share >= 0, inner, outer)
        changes = changes.index_add(0, changed, share[:, None] * difference)
    return (flat + changes).view_as(colour)
