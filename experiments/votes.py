"""How far a choice keeps its weight where its votes agree only in part: two scenes, one line between them.

    python experiments/votes.py          # a table of weights that come out, over v
    python experiments/votes.py worlds   # v in the joint worlds, mean and least over pairs of scenes

The scenes lie at +1 and −1 in units of half their distance, with weights w and 1 − w. The flow du/dλ = x̂0 − u,
λ = −log σ, sees y = u + σ (√v ε + √(1−v) ξ): ε is kept along the path, ξ is new in every vote, and many votes are
averaged. v is the correlation of the votes of two groups. The table has the share of paths, over ε, that end at the
scene of weight w; v = 1 is the exact flow of one group, v = 0 is noise that is new at every visit.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import torch
from pullback.evaluate.exact_worlds import world as world_of
from pullback.output.markdown import print_table

KEPT = (1.0, 0.9, 0.75, 0.5, 0.25)
NODES, FACTORS = np.polynomial.hermite_e.hermegauss(61)
SIGMAS = np.geomspace(80.0, 0.02, 400)


def end(epsilon: float, kept: float, weight: float) -> float:
    """The path's last u from u = 0, by Heun's rule with the mean over ξ by quadrature."""
    prior, factors = math.log(weight / (1 - weight)) / 2, FACTORS / FACTORS.sum()

    def slope(u: float, sigma: float) -> float:
        noise = math.sqrt(kept) * epsilon + math.sqrt(1 - kept) * NODES
        return float(factors @ np.tanh(prior + (u + sigma * noise) / sigma**2)) - u

    u = 0.0
    for now, after in itertools.pairwise(SIGMAS):
        step = math.log(now / after)
        first = slope(u, now)
        u += step * (first + slope(u + step * first, after)) / 2
    return u


def share(kept: float, weight: float) -> float:
    """The share of ε that ends at the scene of this weight, from the ε that parts both ends."""
    low, high = -12.0, 12.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if end(middle, kept, weight) > 0 else (middle, high)
    return (1 - math.erf(low / math.sqrt(2))) / 2


def agreements(world: Any, firsts: range) -> list[float]:
    """The mean correlation of the votes of two groups, for each pair of scenes; v of the table.

    A vote between two scenes is the product of the noise of all places with the difference of the scenes' images, so
    that the votes of two groups correlate as these differences do.

    Args:
        world: A joint world.
        firsts: The first camera of each group.
    """
    side = len(world.cameras) // world.group
    images = world.images(world.cameras)
    groups = [(first + side * torch.arange(world.group)) % len(world.cameras) for first in firsts]
    seen = torch.stack([images[:, group].flatten(1) for group in groups], 1)  # [M, groups, …]
    found = []
    for k in range(len(seen)):
        for other in range(k):
            apart = torch.nn.functional.normalize(seen[k] - seen[other], dim=1)
            found.append(float((apart @ apart.T).mean()))
    return found


def main() -> None:
    """Prints a table."""
    if sys.argv[1:] == ["worlds"]:
        rows = []
        for name in ("shapes", "two-tone", "badge", "pairs"):
            world: Any = world_of(f"joint-{name}")
            count = len(world.cameras)
            for where, firsts in (("anywhere", range(0, count, 4)), ("on one side", range(0, count // world.group))):
                found = agreements(world, firsts)
                rows.append([name, where, f"{sum(found) / len(found):.2f}", f"{min(found):.2f}"])
        print_table(["world", "first camera", "mean v", "least v"], rows)
        return
    rows = [[f"{w:g}", *(f"{share(v, w):.3f}" for v in KEPT)] for w in (0.5, 0.4, 0.3, 0.2, 0.1)]
    print_table(["weight", *(f"v = {v:g}" for v in KEPT)], rows)


if __name__ == "__main__":
    main()
