"""A grid of tetrahedra over the unit cube, and the surface at which a value on its vertices changes its sign.

Each of the grid's R³ cubes is cut along its diagonal into six tetrahedra, all in the same way, so that neighbours share
their faces (Freudenthal 1942). The surface is that of marching tetrahedra (Doi and Koide 1991): closed inside the cube,
and a function of values and places that has derivatives as long as no value changes its sign.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

CORNERS = torch.tensor([[n >> axis & 1 for axis in range(3)] for n in range(8)])  # of a cube, as steps along x, y, z


def _tetrahedra() -> Tensor:
    """The corners [6,4] of a cube's tetrahedra, each with a positive volume."""
    found = []
    for x, y, _ in permutations((1, 2, 4)):
        path = [0, x, x | y, 7]
        a, b, c, d = CORNERS[path].double()
        turned = torch.linalg.det(torch.stack([b - a, c - a, d - a])) < 0
        found.append([path[i] for i in ((0, 2, 1, 3) if turned else (0, 1, 2, 3))])
    return torch.tensor(found)


EDGES = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
"""Of a tetrahedron."""


def _cuts() -> Tensor:
    """The triangles [16,2,3] of edges for each set of corners inside, corner k counting 2^k; −1 where there is none.

    They are counter-clockwise seen from outside.
    """
    places = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    table = torch.full((16, 2, 3), -1)
    for case in range(1, 15):
        inside = [k for k in range(4) if case >> k & 1]
        outside = [k for k in range(4) if k not in inside]
        if len(inside) == 2:
            (a, b), (c, d) = inside, outside
            ring = [(a, c), (a, d), (b, d), (b, c)]
        else:
            ring = [(a, b) for a in inside for b in outside]
        cuts = [EDGES.index((min(e), max(e))) for e in ring]
        middle = torch.stack([places[list(e)].mean(0) for e in ring])
        away = places[outside].mean(0) - places[inside].mean(0)
        if torch.linalg.cross(middle[1] - middle[0], middle[2] - middle[0]) @ away < 0:
            cuts = cuts[::-1]
        for i in range(len(cuts) - 2):
            table[case, i] = torch.tensor([cuts[0], cuts[i + 1], cuts[i + 2]])
    return table


TETRAHEDRA, CUTS = _tetrahedra(), _cuts()
_ENDS = TETRAHEDRA[:, torch.tensor(EDGES)]  # [6,6,2] corners of the cube
_LOWER, _STEP = _ENDS[..., 0] & _ENDS[..., 1], _ENDS[..., 0] ^ _ENDS[..., 1]


def vertices(resolution: int) -> Tensor:
    """Places [(R+1)³,3] of the grid's vertices in the unit cube, x slowest."""
    axis = torch.linspace(0, 1, resolution + 1)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)


def surface(values: Tensor, places: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The surface between the vertices that are inside, where the value is below 0, and all others.

    Args:
        values: [(R+1)³], differentiable.
        places: [(R+1)³,3], differentiable.
        resolution: R.

    Returns:
        Vertices [V,3] on edges of the grid, and faces [F,3] int64, counter-clockwise seen from outside; V = F = 0 where
        all vertices are on one side. It is open where it meets the border of the grid.
    """
    side, on = resolution + 1, values.device
    sides = side * side, side, 1
    offsets = CORNERS.to(on) @ torch.tensor(sides, device=on)
    inside = values.detach() < 0
    cubes = torch.arange(len(values), device=on).view(side, side, side)[:-1, :-1, :-1].reshape(-1)
    corners = cubes[:, None] + offsets
    count = inside[corners].sum(1)
    corners = corners[(count > 0) & (count < 8)]  # [C,8]
    weights = 2 ** torch.arange(4, device=on)
    case = (inside[corners][:, TETRAHEDRA.to(on)] * weights).sum(-1)  # [C,6]
    cuts = CUTS.to(on)[case]  # [C,6,2,3]
    edges = corners[:, _LOWER.to(on)] * 8 + _STEP.to(on)  # [C,6,6]: lower vertex and step of each edge
    used = edges[:, :, None].expand(-1, -1, 2, -1).gather(-1, cuts.clamp(min=0))[cuts[..., 0] >= 0]  # [F,3]
    marked = torch.zeros(len(values) * 8, dtype=torch.bool, device=on)
    marked[used] = True
    faces = (marked.cumsum(0) - 1)[used]
    lower = marked.nonzero()[:, 0]
    first, second = lower // 8, lower // 8 + offsets[lower % 8]
    a, b = values[first], values[second]
    part = (a / (a - b))[:, None]
    return places[first] * (1 - part) + places[second] * part, faces
