"""Variational score distillation (Wang et al. 2023, "ProlificDreamer"): SDS with ε̂ of a second model for its ε."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser, Sigma, per_view
from ..errors import UserError
from ..priors import SceneMixture
from ..sampling.state import Result
from .distil import Ask, Record, distil
from .sds import weight_of


class Second(Protocol):
    """φ: what the second model holds the present renders for. May bring `nfe_per_view`."""

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """Its x̂0 [V,C,H,W] of noisy renders of these views."""
        ...

    def learn(self, clean: Tensor, views: Any, generator: torch.Generator) -> int:
        """One step towards the present renders u [V,C,H,W]; returns the calls it took, each view counted singly."""
        ...


class Particles(nn.Module):
    """Several representations as one, whose views are those of the first, then those of the second, …"""

    def __init__(self, diffreps: list[nn.Module]):
        super().__init__()
        self.diffreps = nn.ModuleList(diffreps)

    def render(self, views: Any) -> Tensor:
        """[n·V,C,H,W] of n representations and V views."""
        return torch.cat([cast(Any, diffrep).render(views) for diffrep in self.diffreps])


class ForEach:
    """A denoiser of V views for the n·V of `Particles`; brings the denoiser's other attributes along."""

    def __init__(self, denoise: Denoiser, count: int):
        self.denoise, self.count = denoise, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoise, name)

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        return torch.cat([self.denoise(part, sigma, views) for part in noisy.chunk(self.count)])


class Exact:
    """The best φ of n particles, without a network: of a view, the mean of their renders as the noise lets them be.

    E[u_j | y] with j one of the particles, all equally likely: Σ_j u_j softmax_j(−‖y − u_j‖²/(2σ²)). It costs no
    denoiser calls. With one particle it is u itself, and VSD is SDS without its noise ε.
    """

    nfe_per_view = 0

    def __init__(self, count: int = 1):
        self.count = count
        self._mixture: SceneMixture | None = None

    def learn(self, clean: Tensor, views: Any, generator: torch.Generator) -> int:
        renders = clean.unflatten(0, (self.count, -1))
        self._mixture = SceneMixture(lambda views: renders, 0.0)
        return 0

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        if self._mixture is None:
            raise RuntimeError("learn the renders first")
        return torch.cat([self._mixture.denoise(part, sigma, views) for part in noisy.chunk(self.count)])


def gradient(ask: Ask, weight: str) -> Tensor:
    """w(σ) (ε̂ − ε̂_φ) = w(σ) (x̂0_φ − x̂0)/σ [V,C,H,W] at a random level; φ is `ask.other`."""
    assert ask.other is not None
    level = ask.random_level()
    sigma = per_view(level, ask.clean)
    noisy = ask.clean + sigma * ask.noise()
    x0 = ask.denoise(noisy, level)
    return weight_of(weight, sigma) * (ask.other(noisy, level) - x0) / sigma


def sample(
    diffrep: nn.Module | list[nn.Module],
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    steps: int = 1000,
    lr: float = 0.01,
    weight: str = "sds",
    phi: Second | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    callback: Callable[[Record], None] | None = None,
) -> Result:
    """VSD on the parameters of one diffrep, or of several, which push each other apart.

    phi: the second model; `Exact` by default. Of several diffreps, its views and the result's are those of `Particles`.
    In every step it learns first, then all of them take a step. The rest is as for `sds.sample`; guidance is 7.5 in the
    paper.
    """
    weight_of(weight, 1.0)
    particles = diffrep if isinstance(diffrep, list) else [diffrep]
    if not particles:
        raise UserError("VSD needs at least one particle.")
    count = len(particles)
    whole, each = (particles[0], denoise) if count == 1 else (Particles(particles), ForEach(denoise, count))
    return distil(
        whole, views, each, sigmas, lambda ask: gradient(ask, weight), steps, lr, optimizer, generator, callback,
        Exact(count) if phi is None else phi,
    )  # fmt: skip
