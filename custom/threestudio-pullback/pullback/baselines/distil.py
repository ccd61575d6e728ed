"""What the baselines share: choose σ and ε, get a change of u, and step along Jᵀ of it with an optimiser.

Each step: draw views, render u, let the method compute the gradient g in image space, and give the optimiser Jᵀ g / V.
There is no inverse metric, so the path of images depends on how f is parametrised and on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from ..denoiser import Denoiser, LatentDenoiser, Sigma
from ..errors import NonFiniteError, UserError, check_finite
from ..fitting import DiffRep, trainable
from ..noise import white
from ..sampling.sampler import Sampler
from ..sampling.space import Space
from ..sampling.state import Result

if TYPE_CHECKING:
    from typing_extensions import Unpack

Record = dict[str, Any]
Predict = Callable[[Tensor, Any], Tensor]


class Descent(TypedDict, total=False):
    """The keyword arguments that every baseline's `sample` has.

    Attributes:
        steps: Steps of the optimiser; 1000 by default.
        lr: Learning rate of Adam; 0.01 by default.
        optimizer: Another optimiser of the diffrep's parameters, which has its own learning rate.
        generator: As for pullback.Sampler.
        callback: Called with the record of every step, a dict of plain values.
    """

    steps: int
    lr: float
    optimizer: torch.optim.Optimizer | None
    generator: torch.Generator | None
    callback: Callable[[Record], None] | None


@dataclass(frozen=True)
class Step:
    """What a method has to compute a gradient from.

    Attributes:
        clean: u [V,C,H,W], without gradient.
        done: Share of the steps taken, in [0, 1).
        levels: The positive σ, decreasing.
        generator: Draws what the method needs.
        denoise: (noisy, σ) -> x̂0, σ a number or [V]; its calls are counted.
        other: The same of the method's second network, where it has one.
    """

    clean: Tensor
    done: float
    levels: list[float]
    generator: torch.Generator
    denoise: Predict
    other: Predict | None = None

    def random_level(self) -> Sigma:
        """Each level equally likely: with the model's own levels, σ uniform in its time t."""
        index = torch.randint(len(self.levels), (), generator=self.generator, device=self.generator.device)
        return self.levels[int(index)]

    def noise(self) -> Tensor:
        """Fresh white noise [V,C,H,W]."""
        return white(self.generator, self.clean)(tuple(self.clean.shape))


def distil(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    gradient: Callable[[Step], Tensor],
    other: Any = None,
    **descent: Unpack[Descent],
) -> Result:
    """Runs a baseline.

    Args:
        diffrep: As for pullback.Sampler.
        views: As for pullback.Sampler.
        denoise: As for pullback.Sampler.
        sigmas: 1-D, decreasing, ending in 0.
        gradient: What u descends, g [V,C,H,W].
        other: A second denoiser; where it has `learn(clean, views, generator) -> calls`, that comes before every step.
        **descent: See `Descent`.

    Raises:
        UserError: An argument is out of range.
        NonFiniteError: A NaN or infinity; it names the step and σ.
    """
    steps, lr = descent.get("steps", 1000), descent.get("lr", 0.01)
    if steps < 1 or not lr > 0:
        raise UserError(f"a baseline needs steps >= 1 and lr > 0, not {steps} and {lr}")
    sampler = Sampler(diffrep, views, denoise, sigmas, generator=descent.get("generator"))
    space, encode = sampler.space, denoise.encode if isinstance(denoise, LatentDenoiser) else None
    optimizer: Any = descent.get("optimizer") or torch.optim.Adam(trainable(diffrep).values(), lr=lr)
    callback, learned, history = descent.get("callback"), 0, list[Record]()
    beside = None if other is None else Space(diffrep, other)
    space.begin()

    for step in range(steps):
        batch = sampler.draw_views()
        optimizer.zero_grad()
        with torch.enable_grad():
            render = diffrep.render(batch)
            clean = check_finite(render if encode is None else encode(render), "the render")
        seen: list[float] = []
        if other is not None and hasattr(other, "learn"):
            learned += other.learn(clean.detach(), batch, sampler.generator)
        try:
            with torch.no_grad():
                predict = _noting(space, batch, seen)
                second = None if beside is None else _noting(beside, batch, seen)
                levels = sampler.sigmas[:-1]
                pull = gradient(Step(clean.detach(), step / steps, levels, sampler.generator, predict, second))
            torch.autograd.backward(clean, check_finite(pull, "the gradient") / len(clean))
        except NonFiniteError as error:
            raise NonFiniteError(f"stopped in step {step}, sigma {seen[-1]:.4g}: {error}") from error
        optimizer.step()
        nfe = learned + space.nfe + (beside.nfe if beside else 0)
        history.append({"step": step, "sigma": seen[-1], "nfe": nfe})
        if callback is not None:
            callback(history[-1])
    optimizer.zero_grad()
    nfe, verdict = history[-1]["nfe"], sampler.check()
    renders = space.render(sampler.draw_views())
    return Result(renders, nfe, history, verdict.consistency, verdict.threshold, verdict.tells)


def _noting(space: Space, views: Any, seen: list[float]) -> Predict:
    """The space's denoiser, which appends σ to the list."""

    def predict(noisy: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return space.denoise(noisy, sigma, views)

    return predict
