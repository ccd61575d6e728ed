"""The baselines as methods of the worlds: SDS, SJC, VSD and SDI at geometrically spaced noise levels.

Options of all: steps of Adam, with a draw of views each; lr, its learning rate; sigma_min, sigma_max and
levels: the noise levels, as many, spaced evenly in log σ. The defaults are what a search found best in the worlds of
scenes, docs/results/baselines.md; in the plane, other values are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...baselines import sdi as _sdi
from ...baselines import sds as _sds
from ...baselines import sjc as _sjc
from ...baselines import vsd as _vsd
from ...errors import UserError
from ...sampling.schedule import settling_sigmas
from ...sampling.state import Result
from .outcome import Outcome


def sds(
    world: Any,
    seed: int,
    *,
    steps: int = 75,
    lr: float = 0.1,
    sigma_min: float = 0.05,
    sigma_max: float = 12.0,
    levels: int = 100,
    weight: str = "sds",
) -> Outcome:
    """Score distillation sampling. weight: w(σ), a key of baselines.sds.WEIGHTS. A step is one call a view."""
    return _distilled(_sds.sample, world, seed, steps, lr, sigma_min, sigma_max, levels, weight=weight)


def sjc(
    world: Any,
    seed: int,
    *,
    steps: int = 75,
    lr: float = 0.1,
    sigma_min: float = 0.05,
    sigma_max: float = 12.0,
    levels: int = 100,
) -> Outcome:
    """Score Jacobian chaining, with the variance reduction of its authors' code. A step is one call a view."""
    return _distilled(_sjc.sample, world, seed, steps, lr, sigma_min, sigma_max, levels)


def vsd(
    world: Any,
    seed: int,
    *,
    steps: int = 75,
    lr: float = 0.1,
    sigma_min: float = 0.05,
    sigma_max: float = 12.0,
    levels: int = 100,
    weight: str = "sds",
    particles: int = 4,
) -> Outcome:
    """Variational score distillation with its best second model, which is exact and costs no calls.

    particles: samples at a time, which push each other apart; the first is the one judged, the others' calls are
    theirs. weight: as for sds.
    """
    if particles < 1:
        raise UserError(f"--method vsd: particles={particles} must be at least 1.")
    return _distilled(_vsd.sample, world, seed, steps, lr, sigma_min, sigma_max, levels, particles, weight=weight)


def sdi(
    world: Any,
    seed: int,
    *,
    steps: int = 75,
    lr: float = 0.1,
    sigma_min: float = 4.0,
    sigma_max: float = 12.0,
    levels: int = 100,
    inversion_steps: int = 3,
    weight: str = "sds",
) -> Outcome:
    """Score distillation via inversion: σ falls from sigma_max to sigma_min. A step is up to inversion_steps + 1
    calls a view. weight: as for sds."""
    options = {"inversion_steps": inversion_steps, "weight": weight}
    return _distilled(_sdi.sample, world, seed, steps, lr, sigma_min, sigma_max, levels, **options)


def _distilled(
    run: Callable[..., Result], world: Any, seed: int, steps: int, lr: float, low: float, high: float, levels: int,
    count: int = 1, **options: Any,
) -> Outcome:  # fmt: skip
    """count: samples at a time; the first is handed on, with its part of the calls."""
    made = [world.diffrep() for _ in range(count)]
    sigmas = settling_sigmas(levels, low, high, power=1.0)
    generator = torch.Generator().manual_seed(seed)
    start = made[0] if count == 1 else made
    result = run(start, world.views, world.denoise, sigmas, steps=steps, lr=lr, generator=generator, **options)
    told = {"self-consistency": result.consistency, "flagged": result.consistency > result.threshold}
    return Outcome(made[0], result.nfe / world.samples / count, told)
