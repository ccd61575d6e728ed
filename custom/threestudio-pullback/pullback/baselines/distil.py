"""What the baselines share: choose σ and ε, ask for a change of u, and step along Jᵀ of it with an optimiser.

Each step: draw views, render u, let the method say the gradient g in image space, and give the optimiser Jᵀ g / V.
There is no inverse metric, so the path of images depends on how f is parametrised and on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser, LatentDenoiser, Sigma
from ..errors import NonFiniteError, UserError, check_finite
from ..fitting.linearise import trainable
from ..noise import white
from ..sampling.sampler import Sampler
from ..sampling.space import Space
from ..sampling.state import Result

Record = dict[str, Any]
Predict = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Ask:
    """What a method knows when it is asked for a gradient.

    clean: u [V,C,H,W], without gradient. done: share of the steps taken, in [0, 1). levels: the positive σ, decreasing.
    denoise: (noisy, σ) -> x̂0, σ a number or [V]; its calls are counted. other: the same of the method's second
    network, where it has one.
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
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    gradient: Callable[[Ask], Tensor],
    steps: int,
    lr: float,
    optimizer: torch.optim.Optimizer | None,
    generator: torch.Generator | None,
    callback: Callable[[Record], None] | None,
    other: Any = None,
) -> Result:
    """The loop; gradient: what u is to descend, g [V,C,H,W]. See `sds.sample` for the rest.

    other: a second denoiser; where it can `learn(clean, views, generator) -> calls`, it does so before every step.
    """
    if steps < 1 or not lr > 0:
        raise UserError(f"A baseline needs steps >= 1 and lr > 0, not {steps} and {lr}.")
    sampler = Sampler(diffrep, views, denoise, sigmas, generator=generator)
    space, encode = sampler.space, denoise.encode if isinstance(denoise, LatentDenoiser) else None
    optimizer = optimizer or torch.optim.Adam(trainable(diffrep).values(), lr=lr)
    nfe, history = 0, []

    for step in range(steps):
        seen = sampler.draw_views()
        optimizer.zero_grad()
        with torch.enable_grad():
            render = cast(Any, diffrep).render(seen)
            clean = check_finite(render if encode is None else encode(render), "the render")
        asked: list[tuple[float, int]] = []
        if other is not None and hasattr(other, "learn"):
            nfe += other.learn(clean.detach(), seen, sampler.generator)
        try:
            with torch.no_grad():
                predict = _counted(space, seen, asked)
                second = None if other is None else _counted(Space(diffrep, other), seen, asked)
                known = (clean.detach(), step / steps, sampler.sigmas[:-1], sampler.generator)
                pull = gradient(Ask(*known, predict, second))
            clean.backward(check_finite(pull, "the gradient") / len(clean))
        except NonFiniteError as error:
            raise NonFiniteError(f"Stopped in step {step}, sigma {asked[-1][0]:.4g}: {error}.") from error
        optimizer.step()
        nfe += sum(calls for _, calls in asked)
        history.append({"step": step, "sigma": asked[-1][0], "nfe": nfe})
        if callback is not None:
            callback(history[-1])
    optimizer.zero_grad()
    verdict = sampler.check()
    return Result(space.render(sampler.draw_views()), nfe, history, verdict.consistency, verdict.threshold)


def _counted(space: Space, seen: Any, asked: list[tuple[float, int]]) -> Predict:
    def predict(noisy: Tensor, sigma: float) -> Tensor:
        asked.append((sigma, space.calls(len(noisy))))
        return space.denoise(noisy, sigma, seen)

    return predict
