"""The exact law of what a constraint samples in a linear-Gaussian world, without sampling.

With f and the denoiser linear, each visit is an affine map x' = F x + N z + c of the state x (θ, noise and what the
constraint keeps) and fresh unit noise z. So the law stays Gaussian, with mean F m + c and covariance F K Fᵀ + N Nᵀ.
F, N and c are read off the constraint's own code by visiting unit vectors: a run of 400 levels takes a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from ...constraints import Constraint, Visit
from ...sampling.schedule import check_sigmas
from .gauss import GaussWorld

DRAWS = 4  # fresh noises that one visit may draw


def schedule(constraint: Constraint, sigmas: Tensor) -> list[tuple[float, float, int]]:
    """The σ, σ' and cycle of each of the sampler's visits, in their order."""
    levels = check_sigmas(sigmas)
    return [(here, there, cycle) for here, there in pairwise(levels) for cycle in range(constraint.cycles)]


def propagate(
    world: GaussWorld,
    constraint: Constraint,
    visits: Iterable[tuple[float, float, int]],
    noise_cov: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean [n] and covariance [n,n] of θ after the visits, for independent noise and exact fits.

    Args:
        world: The linear-Gaussian world.
        constraint: Its target and its new noise have to be linear in their arguments.
        visits: As from `schedule`.
        noise_cov: The covariance [d,d] of the noise at the start; white if None.
    """
    matrix = world.matrix
    d, n = matrix.shape
    inverse = torch.linalg.pinv(matrix)
    projector = matrix @ inverse

    def images(rows: Tensor) -> Tensor:
        return rows[:, None, None]

    def visit(state: Tensor, fresh: Tensor, sigma: float, sigma_next: float, cycle: int) -> Tensor:
        theta, noise, memory = state.split([n, d, state.shape[1] - n - d], 1)
        clean, draws = images(theta @ matrix.T), iter(fresh.split(d, 1))
        inputs = Visit(
            sigma, sigma_next, cycle, clean, images(noise), world.prior.denoise(clean + sigma * images(noise), sigma),
            images(noise), lambda: images(next(draws)), images(memory) if memory.shape[1] else None,
            lambda image, iterations: image @ projector,
        )  # fmt: skip
        moved = constraint.target(inputs)[:, 0, 0] @ inverse.T
        source, kept = constraint.renoise(inputs)
        return torch.cat([moved, source[:, 0, 0]] + ([] if kept is None else [kept[:, 0, 0]]), 1)

    mean = matrix.new_zeros(n + d)
    white = torch.eye(d, dtype=matrix.dtype) if noise_cov is None else noise_cov
    cov = torch.block_diag(matrix.new_zeros(n, n), white)
    for sigma, sigma_next, cycle in visits:
        size, unit = len(mean), torch.eye(len(mean) + DRAWS * d, dtype=matrix.dtype)
        probes = torch.cat([torch.zeros_like(unit[:1]), unit])
        answers = visit(probes[:, :size], probes[:, size:], sigma, sigma_next, cycle)
        offset, linear = answers[0], (answers[1:] - answers[0]).T
        push, spread = linear[:, :size], linear[:, size:]
        mean, cov = push @ mean + offset, push @ cov @ push.T + spread @ spread.T
    return mean[:n], cov[:n, :n]
