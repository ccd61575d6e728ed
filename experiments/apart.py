"""How far the renders of single tries are from x̂0, in σ, level by level: of tries that agree, and of those that do not.

    python experiments/apart.py two-tone surface 0-23        # single views, each with noise of its own side
    python experiments/apart.py joint-two-tone slot 0-4      # groups, whose views agree by construction

A line for each seed: the distance, which `Restart.apart` bounds, at each level from 0.4 √d down to σ = 1; the check at
the end, and the rms to the nearest scene. Field, start and fit are those of the worlds' `preset=faithful start=dense
steps=7`.
"""

from __future__ import annotations

import sys
from typing import Any

import pullback
import torch
from pullback.cli.arguments import parse_seeds
from pullback.evaluate.exact_worlds import world as world_of
from pullback.noise import Slot


def one(name: str, noise: str, seed: int) -> str:
    """One try, looked at on its way and never given up."""
    world: Any = world_of(name)
    field = world.diffrep()
    with torch.no_grad():
        field.density.fill_(-1.25)  # dense, as in the worlds
    sampler = pullback.Sampler(
        field, world.views, world.denoise, world.sigmas(24, 80.0), solver=pullback.FirstOrder(0.05, 7),
        restart=pullback.Restart(noises=(Slot(world.group) if noise == "slot" else noise,), tries=2, apart=torch.inf),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    state, apart, verdict = sampler.initial(), list[str](), None
    while verdict is None:
        state = sampler.visit(state)
        verdict = state.verdict
        if "apart" in state.record and verdict is None:
            apart.append(f"{state.record['apart']:.2f}")
    judged = world.judge(field) if verdict.passed else {"rms": float("nan")}  # a failed try is put back
    said = "agrees" if verdict.passed else "disagrees"
    return f"seed {seed}: {' '.join(apart)}; {said} ({verdict.consistency:.3f}), rms {judged['rms']:.3f}"


def main(name: str, noise: str, seeds: str) -> None:
    """Prints a line for each seed."""
    world_of(name).prepare()
    for seed in parse_seeds(seeds):
        print(one(name, noise, seed), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
