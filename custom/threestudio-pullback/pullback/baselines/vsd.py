"""Variational score distillation (Wang et al. 2023, "ProlificDreamer"): SDS with ε̂ of a second model for its ε."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser, Sigma, per_view
from ..errors import UserError
from ..fitting import DiffRep
from ..priors import SceneMixture
from ..sampling.state import Result
from .distil import Descent, Step, distil
from .sds import weight_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Second(Protocol):
    """φ: a denoiser of the present renders. It may have `nfe_per_view`, see `Denoiser`."""

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """Its x̂0 [V,C,H,W] of noisy renders of these views."""
        ...

    def learn(self, clean: Tensor, views: Any, generator: torch.Generator) -> int:
        """Takes one step towards the present renders u [V,C,H,W].

        Returns:
            Its denoiser calls, where each view counts.
        """
        ...


class Particles(nn.Module):
    """Several representations as one; its views are those of the first, then those of the second, and so on."""

    def __init__(self, diffreps: list[DiffRep]):
        super().__init__()
        self.diffreps = nn.ModuleList(cast(list[nn.Module], diffreps))

    def render(self, views: Any) -> Tensor:
        """[n·V,C,H,W] of n representations and V views."""
        return torch.cat([cast(Any, diffrep).render(views) for diffrep in self.diffreps])


class ForEach:
    """A denoiser of V views for the n·V of `Particles`; the denoiser's other attributes are there too."""

    def __init__(self, denoise: Denoiser, count: int):
        self.denoise, self.count = denoise, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoise, name)

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """x̂0 [n·V,C,H,W], one particle after the other."""
        return torch.cat([self.denoise(part, sigma, views) for part in noisy.chunk(self.count)])


class Exact:
    """The best φ of n particles, without a network: the posterior mean of a view's render.

    E[u_j | y] with j one of the particles, all equally likely: Σ_j u_j softmax_j(−‖y − u_j‖²/(2σ²)). It costs no
    denoiser calls. With one particle it is u itself, and VSD is SDS without its noise ε.

    Args:
        count: n.
    """

    nfe_per_view = 0

    def __init__(self, count: int = 1):
        self.count = count
        self._mixture: SceneMixture | None = None

    def learn(self, clean: Tensor, views: Any, generator: torch.Generator) -> int:
        """Takes the renders u [n·V,C,H,W] for those of the particles, at no cost."""
        renders = clean.reshape(self.count, -1, *clean.shape[1:])
        self._mixture = SceneMixture(lambda views: renders, 0.0)
        return 0

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """E[u | y] [n·V,C,H,W], one particle after the other."""
        if self._mixture is None:
            raise RuntimeError("learn the renders first")
        return torch.cat([self._mixture.denoise(part, sigma, views) for part in noisy.chunk(self.count)])


def gradient(step: Step, weight: str) -> Tensor:
    """w(σ) (ε̂ − ε̂_φ) = w(σ) (x̂0_φ − x̂0)/σ [V,C,H,W] at a random level; φ is `step.other`."""
    assert step.other is not None
    level = step.random_level()
    sigma = per_view(level, step.clean)
    noisy = step.clean + sigma * step.noise()
    x0 = step.denoise(noisy, level)
    return weight_of(weight, sigma) * (step.other(noisy, level) - x0) / sigma


def sample(
    diffrep: DiffRep | list[DiffRep],
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    weight: str = "sds",
    phi: Second | None = None,
    **descent: Unpack[Descent],
) -> Result:
    """VSD on the parameters of one diffrep, or of several, which push each other apart.

    In every step φ learns first; then all diffreps take a step.

    Args:
        diffrep: One or several. Of several, the views of φ and of the result are those of `Particles`.
        views: As for `sds.sample`.
        denoise: As for `sds.sample`; guidance is 7.5 in the paper.
        sigmas: As for `sds.sample`.
        weight: As for `sds.sample`.
        phi: The second model; `Exact` by default.
        **descent: See `Descent`.

    Raises:
        UserError: There is no diffrep, or an argument is out of range.
    """
    weight_of(weight, 1.0)
    particles = diffrep if isinstance(diffrep, list) else [diffrep]
    if not particles:
        raise UserError("VSD needs at least one particle")
    count = len(particles)
    whole, each = (particles[0], denoise) if count == 1 else (Particles(particles), ForEach(denoise, count))
    second = Exact(count) if phi is None else phi
    return distil(whole, views, each, sigmas, lambda step: gradient(step, weight), second, **descent)
