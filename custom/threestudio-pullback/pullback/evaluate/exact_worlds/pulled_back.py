"""The pulled-back sampler as a method of the worlds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...constraints import CONSTRAINTS, Constraint, Langevin, Projection, Repaint
from ...errors import UserError
from ...fitting.decaying import Decaying
from ...fitting.solvers import FirstOrder, GaussNewton, Solver
from ...noise import Slot
from ...sampling import presets
from ...sampling.loops import sample
from ...sampling.schedule import settling_sigmas
from .outcome import Outcome


def pullback(
    world: Any,
    seed: int,
    *,
    preset: str = "fast",
    noise: str = "",
    constraint: str = "",
    cycles: int = 1,
    fresh: float = 0.0,
    momentum: float = 0.9,
    step: float = 1.5,
    tries: int = 0,
    limit: float = 0.0,
    views: int = 0,
    start: str = "fog",
    schedule: str = "karras",
    levels: int = 20,
    sigma_max: float = 40.0,
    order: int = 1,
    solver: str = "adam",
    lr: float = 0.05,
    last: float = 0.0,
    steps: int = 5,
    iterations: int = 2,
    cg: int = 5,
    damping: float = 0.1,
) -> Outcome:
    """The pulled-back sampler.

    Args:
        world: The world.
        seed: The seed of the sample.
        preset: The values of noise, constraint and tries, where they are "" or 0.
        noise: A coupling; slot is for the worlds of groups.
        constraint: none, repaint, projection, langevin, or the name of another.
        cycles: Visits of a level, for repaint.
        fresh: Share of new noise, for projection.
        momentum: For langevin.
        step: For langevin.
        tries: The maximum number of attempts, including the first; 1 disables retries. With surface noise, the part
            that disagrees gets new noise, and noises are tied after failures all over.
        limit: The self-consistency above which there is another attempt; 0 for the derived threshold.
        views: How many of the 8 views that a world of scenes draws at each visit; 0 for all. Not for groups.
        start: fog, or dense for a representation with a density, whose sides then hardly show through one another.
        schedule: karras, the world's own levels, or settling, as many between the same σ, for langevin.
        levels: How many noise levels there are.
        sigma_max: The first of them.
        order: 1 for Euler's method, 2 for Heun's.
        solver: adam or gauss-newton.
        lr: Learning rate of adam.
        last: Learning rate of the last visit, to which it falls in the second half of a run; 0 for lr all along.
        steps: Steps of adam at each level.
        iterations: Iterations of gauss-newton at each level.
        cg: Conjugate-gradient iterations of each of them, and of langevin's projection.
        damping: Of gauss-newton.

    Raises:
        UserError: A name is unknown, or options contradict each other.
    """
    defaults = presets.find(preset)
    noise, constraint, tries = noise or defaults.noise, constraint or defaults.constraint, tries or defaults.tries
    if (constraint == "repaint") != (cycles != 1):
        raise UserError("--method pullback: constraint=repaint and cycles above 1 go together; set both or neither")
    constraints: dict[str, Callable[[], Constraint]] = {
        "none": Constraint,
        "repaint": lambda: Repaint(cycles),
        "projection": lambda: Projection(fresh),
        "langevin": lambda: Langevin(momentum, step, cg),
    }
    constraints |= {name: partial(CONSTRAINTS.find, name) for name in CONSTRAINTS if name not in constraints}
    schedules: dict[str, Callable[[], Tensor]] = {
        "karras": lambda: world.sigmas(levels, sigma_max),
        "settling": lambda: settling_sigmas(levels, float(world.sigmas(2, sigma_max)[1]), sigma_max),
    }
    solvers: dict[str, Callable[[], Solver]] = {
        "adam": lambda: Decaying(lr, steps, visits=levels * cycles, last=last) if last else FirstOrder(lr, steps),
        "gauss-newton": lambda: GaussNewton(iterations, cg, damping),
    }
    diffrep = world.diffrep()
    _choice("start", start, {"fog": lambda: None, "dense": lambda: _make_dense(diffrep)})()
    result = sample(
        diffrep, _views(world, levels * cycles, views), world.denoise,
        _choice("schedule", schedule, schedules)(),
        noise=Slot(world.group) if noise == "slot" else noise,
        constraint=_choice("constraint", constraint, constraints)(),
        restart=presets.retried(noise, tries, limit=limit or None), solver=_choice("solver", solver, solvers)(),
        order=order, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    outcome = Outcome.of(diffrep, result, world.samples)
    if tries > 1:
        outcome.extra["tries"] = result.history[-1]["attempt"] + 1
    return outcome


def _views(world: Any, visits: int, number: int) -> Any:
    """The views of a path, the first few of those that are drawn at a visit unless the number is 0."""
    if not number:
        return world.views_of_a_path(visits)
    poses = isinstance(getattr(world, "cameras", None), Tensor)  # those of a panorama are crops
    if not poses or world.group > 1 or not 1 <= number <= 8:
        raise UserError("--method pullback: views is 1 to 8, in worlds of scenes without groups; leave it out")
    return lambda generator: world.views(generator)[:number]


def _make_dense(diffrep: nn.Module) -> None:
    density = getattr(diffrep, "density", None)
    if density is None:
        raise UserError("--method pullback: start=dense needs a representation with a density; this has none")
    with torch.no_grad():
        density.fill_(-1.25)  # half of the cube lets 8 % of the light through, the fog 28 %


def _choice(option: str, value: str, makers: dict[str, Callable[[], Any]]) -> Callable[[], Any]:
    if value not in makers:
        raise UserError(f"--method pullback: {option}={value} is not known; use {', '.join(makers)}")
    return makers[value]
