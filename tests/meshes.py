"""A mesh and a camera for tests and benchmarks of the rasteriser."""

from __future__ import annotations

import math

import torch


def ball(
    rings: int, radius: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0)
) -> tuple[torch.Tensor, torch.Tensor]:
    """A closed mesh: corners [V, 3] and triangles."""
    turns = 2 * rings
    polar = torch.linspace(0, math.pi, rings + 1)[1:-1, None]
    around = torch.arange(turns) * (2 * math.pi / turns)
    x, y = polar.sin() * around.cos(), polar.sin() * around.sin()
    rows = torch.stack([x, y, polar.cos().expand_as(x)], -1).view(-1, 3)
    points = torch.cat([rows, torch.tensor([[0, 0, 1.0], [0, 0, -1.0]])]) * radius + torch.tensor(centre)
    faces, top, bottom = [], len(rows), len(rows) + 1
    for j in range(turns):
        k = (j + 1) % turns
        faces += [[top, j, k], [bottom, (rings - 2) * turns + k, (rings - 2) * turns + j]]
        for i in range(rings - 2):
            a, b = i * turns + j, i * turns + k
            faces += [[a, a + turns, b], [b, a + turns, b + turns]]
    return points, torch.tensor(faces, dtype=torch.int32)


def seen(points: torch.Tensor, distance: float = 3.0, focal: float = 2.0) -> torch.Tensor:
    """Positions in clip space [V, 4] of a pinhole on the z-axis."""
    w = distance - points[:, 2:]
    return torch.cat([points[:, :2] * focal, (w * 11 - 2 * 10) / 9, w], 1)  # planes at 1 and 10
