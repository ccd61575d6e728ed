"""Linear-Gaussian worlds: x ~ N(μ, Σ), renders f(θ) = Aθ. The right answer has a closed form.

A square and invertible: θ ~ N(A⁻¹μ, A⁻¹ΣA⁻ᵀ). A tall: N(μ, Σ) restricted to the range of A, which is
θ ~ N(C AᵀΣ⁻¹μ, C) with C = (AᵀΣ⁻¹A)⁻¹; the square case is the same formula.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ... import priors
from ...sampling.schedule import karras_sigmas

D = torch.float64


class LinearBatch(nn.Module):
    """Many independent θ [N,n], all with the same map A [d,n]: view i is the render of the i-th θ.

    The joint JᵀJ is block-diagonal with equal blocks AᵀA, so n iterations of conjugate gradients solve all N
    fits exactly. Starts at 0.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, count: int):
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.theta = nn.Parameter(matrix.new_zeros(count, matrix.shape[1]))

    def render(self, views: Tensor) -> Tensor:
        """[V,1,1,d] for indices [V]."""
        return (self.theta[views] @ self.matrix.T)[:, None, None]


class GaussWorld:
    """N(μ, Σ) in d dimensions and a map A [d,n], all random, from one seed.

    μ ~ N(0, Σ), so that the range of A, which passes through 0, lies about as far from μ as x does. The eigenvalues of
    Σ and the singular values of A run up to 1, at equal distances in the logarithm, along random directions.

    Args:
        name: As on the command line.
        d: Dimensions of x.
        n: Dimensions of θ.
        spread: Condition number of Σ.
        condition: Condition number of A.
        samples: Independent samples in one diffrep; `measures` pools those of all seeds.
        seed: The seed of A, μ and Σ.
    """

    def __init__(
        self, name: str, d: int, n: int, spread: float = 100.0, condition: float = 3.0, samples: int = 20_000, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)
        matrix = _rotation(d, generator)[:, :n] * _ladder(n, condition) @ _rotation(n, generator)
        directions = _rotation(d, generator)
        cov = directions * _ladder(d, spread) @ directions.T
        mean = directions * _ladder(d, spread).sqrt() @ torch.randn(d, generator=generator, dtype=D)
        self._set(name, matrix, mean, cov, samples)

    def _set(self, name: str, matrix: Tensor, mean: Tensor, cov: Tensor, samples: int) -> None:
        """Sets A [d,n], μ [d] and Σ [d,d], and what follows from them."""
        self.name, self.samples, self.matrix, self.mean, self.cov = name, samples, matrix, mean, cov
        self.defaults = {"noise": "independent", "solver": "gauss-newton", "iterations": 1, "cg": matrix.shape[1],
                         "damping": 0.0, "levels": 100}  # fmt: skip
        self.prior = priors.GaussianPrior(self.mean[None, None], self.cov)
        pull = self.matrix.T @ torch.linalg.inv(self.cov)
        self.exact_cov = torch.linalg.inv(pull @ self.matrix)
        self.exact_mean = self.exact_cov @ pull @ self.mean
        self.views = torch.arange(samples)

    def diffrep(self) -> LinearBatch:
        """All samples' parameters θ [N,n], at 0."""
        return LinearBatch(self.matrix, self.samples)

    def prepare(self) -> None:
        """Nothing to make beforehand."""

    def views_of_a_path(self, visits: int) -> Any:
        """The views, which do not depend on how far a path is."""
        return self.views

    def sigmas(self, levels: int = 100, sigma_max: float = 40.0) -> Tensor:
        """Noise levels sigma_max … 0.01, 0 (ρ = 7); the prior's standard deviations lie between 0.03 and 1."""
        return karras_sigmas(levels, 0.01, sigma_max)

    def denoise(self, noisy: Tensor, sigma: float, views: Tensor) -> Tensor:
        """The exact posterior mean x̂0 [N,1,1,d]."""
        return self.prior.denoise(noisy, sigma)

    @torch.no_grad()
    def perfect(self, generator: torch.Generator) -> LinearBatch:
        """Exact samples."""
        batch = self.diffrep()
        white = torch.randn(batch.theta.shape, generator=generator, dtype=D)
        batch.theta.copy_(self.exact_mean + white @ torch.linalg.cholesky(self.exact_cov).T)
        return batch

    def judge(self, diffrep: Any) -> dict[str, Any]:
        """Mean [n] and covariance [n, n] of the samples in one diffrep, and their errors (see `errors`)."""
        theta = diffrep.theta.detach()
        mean, cov = theta.mean(0), torch.cov(theta.T).reshape(theta.shape[1], -1)
        return {"mean": mean.tolist(), "cov": cov.tolist(), **self.errors(mean, cov)}

    def errors(self, mean: Tensor, cov: Tensor) -> dict[str, float]:
        """The relative Frobenius norm of the covariance's error, and ‖m − m*‖ over the root of the trace of C."""
        return {
            "cov error": float((cov - self.exact_cov).norm() / self.exact_cov.norm()),
            "mean error": float((mean - self.exact_mean).norm() / self.exact_cov.trace().sqrt()),
        }

    def chance(self, count: int) -> dict[str, float]:
        """Root mean square of the same errors for `count` perfect samples: what cannot be told from zero."""
        trace, square = self.exact_cov.trace() ** 2, self.exact_cov.square().sum()
        return {"cov error": math.sqrt(float((trace + square) / square) / count), "mean error": count**-0.5}

    def verdict(self, row: dict[str, Any]) -> str:
        """A judged sample in a few words."""
        return f"covariance error {row['cov error']:.3f}, mean error {row['mean error']:.3f}"

    def histogram(self, rows: list[dict[str, Any]]) -> None:
        """None: there are no modes."""

    def picture(self, diffrep: Any) -> None:
        """None: there is nothing to see."""

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Errors of the pooled samples of all rows, beside what chance alone gives."""
        means, covs = (torch.tensor([row[key] for row in rows], dtype=D) for key in ("mean", "cov"))
        away = means - means.mean(0)
        pooled = covs.mean(0) + torch.einsum("ri,rj->ij", away, away) / len(rows)
        count = len(rows) * self.samples
        by_chance = {f"{key} by chance": value for key, value in self.chance(count).items()}
        return {"samples": count} | self.errors(means.mean(0), pooled) | by_chance


def _rotation(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=D))[0]


def _ladder(size: int, ratio: float) -> Tensor:
    """`size` numbers from 1/ratio to 1, evenly spaced in the logarithm."""
    return torch.logspace(-math.log10(ratio), 0, size, dtype=D)


def square() -> GaussWorld:
    """The square case, d = n = 8: there is no constraint, and the flow alone has to be right."""
    return GaussWorld("gauss-square", 8, 8)


def tall() -> GaussWorld:
    """The tall case, d = 16, n = 6, of the documentation's tables."""
    return GaussWorld("gauss-tall", 16, 6)


def stiff() -> GaussWorld:
    """The stiff case, d = 16, n = 6: condition numbers are 1000 of Σ and 30 of A."""
    return GaussWorld("gauss-stiff", 16, 6, spread=1000.0, condition=30.0)


def large() -> GaussWorld:
    """The large case, d = 64, n = 16."""
    return GaussWorld("gauss-large", 64, 16, samples=10_000)
