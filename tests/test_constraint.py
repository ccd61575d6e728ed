"""Constraints: what they ask of the renders, which noise they keep, and that they draw from the right law."""

from __future__ import annotations

import math

import pullback
import pytest
import torch
from pullback import diffreps, priors
from pullback.constraints import Constraint, Visit
from pullback.errors import UserError
from torch import nn

D = torch.float64


def gaussian(d: int, seed: int = 0) -> priors.GaussianPrior:
    root = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=D)
    return priors.GaussianPrior(torch.zeros(1, 1, d, dtype=D), root @ root.T / d)


def visit(sigma: float = 2.0, sigma_next: float = 1.2, cycle: int = 0) -> Visit:
    generator = torch.Generator().manual_seed(0)
    clean, noise, x0 = torch.randn(3, 4, 1, 50, 50, generator=generator, dtype=D)
    return Visit(
        sigma, sigma_next, cycle, clean, noise, x0, noise,
        lambda: torch.randn(4, 1, 50, 50, generator=generator, dtype=D), None, lambda images, iterations: images,
    )  # fmt: skip


def test_the_plain_target_is_one_ddim_step_with_the_noise_kept_apart():
    v = visit()
    noisy = v.clean + v.sigma * v.noise
    predicted = (noisy - v.x0) / v.sigma
    ddim = v.x0 + v.sigma_next * predicted
    assert torch.allclose(Constraint().target(v), ddim - v.sigma_next * v.noise, atol=1e-12)
    assert Constraint().renoise(v)[0] is v.source


def test_the_last_target_is_the_denoised_image():
    v = visit(sigma_next=0.0)
    assert torch.equal(Constraint().target(v), v.x0)


def test_repaint_refreshes_between_cycles_and_keeps_at_the_end():
    constraint = pullback.Repaint(cycles=3)
    v = visit(cycle=1)
    again, _ = constraint.renoise(v)
    assert float((again * v.source).mean()) == pytest.approx(1.2 / 2.0, abs=0.05)
    assert float(again.square().mean()) == pytest.approx(1.0, abs=0.05)
    last = visit(cycle=2)
    assert constraint.renoise(last)[0] is last.source


def test_projection_noise_mixes_prediction_and_fresh():
    v = visit()
    predicted = v.noise + (v.clean - v.x0) / v.sigma
    assert torch.allclose(pullback.Projection(fresh=0.0).renoise(v)[0], predicted, atol=1e-14)
    half = pullback.Projection(fresh=0.6).renoise(v)[0] - 0.8 * predicted
    assert float(half.square().mean()) == pytest.approx(0.36, abs=0.02)
    assert abs(float((half * predicted).mean())) < 0.05
    assert torch.equal(pullback.Projection().target(v), v.x0)


def test_projection_of_the_identity_is_ddim():
    prior, sigmas = gaussian(6), pullback.karras_sigmas(12, 0.05, 20.0)
    ends = []
    for constraint in (None, pullback.Projection()):
        rep = diffreps.Pixels(1, 1, 6).double()
        pullback.sample(
            rep, [0], prior.denoise, sigmas, constraint=constraint, solver=pullback.GaussNewton(),
            generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        ends.append(rep.values.detach())
    assert torch.allclose(*ends, atol=1e-10)


def test_projection_leaves_the_render_at_the_nearest_point_of_its_range():
    prior = gaussian(6)
    matrix = torch.randn(6, 2, dtype=D, generator=torch.Generator().manual_seed(1))
    projector = matrix @ torch.linalg.pinv(matrix)
    heard = []

    def denoise(noisy, sigma, views):
        heard.append(prior.denoise(noisy, sigma))
        return heard[-1]

    rep = diffreps.Linear(matrix)
    states = pullback.steps(
        rep, [0], denoise, pullback.karras_sigmas(5, 0.1, 10.0), constraint=pullback.Projection(fresh=0.3),
        solver=pullback.GaussNewton(), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for _ in states:
        assert torch.allclose(rep.render([0]).flatten(), projector @ heard[-1].flatten(), atol=1e-9)


def test_projection_tells_which_noise_it_needs():
    rep, prior = diffreps.Pixels(3, 1, 1, 6).double(), gaussian(6)
    sigmas = pullback.karras_sigmas(3, 0.1, 10.0)
    with pytest.raises(UserError, match="independent"):
        pullback.sample(rep, [0, 1, 2], prior.denoise, sigmas, constraint=pullback.Projection(fresh=0.5))
    pullback.sample(rep, [0, 1, 2], prior.denoise, sigmas, constraint=pullback.Projection(fresh=1.0))
    with pytest.raises(UserError, match="order must be 1"):
        pullback.sample(rep, [0], prior.denoise, sigmas, constraint=pullback.Projection(), order=2)


def test_a_constraint_goes_by_its_name_or_with_options():
    sigmas, ends = pullback.karras_sigmas(4, 0.1, 10.0), []
    for constraint in (pullback.Repaint(2), {"type": "repaint", "cycles": 2}, pullback.Repaint(), "repaint"):
        rep = diffreps.Pixels(2, 1, 1, 6).double()
        generator = torch.Generator().manual_seed(3)
        pullback.sample(rep, [0, 1], gaussian(6).denoise, sigmas, constraint=constraint, generator=generator)
        ends.append(rep.values.detach())
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[2], ends[3]) and not torch.equal(ends[1], ends[2])
    for constraint, words in (
        ("repeint", "constraint 'repeint' is not known; use one of none, .*repaint"),
        ({"type": "repaint", "cycle": 2}, "constraint 'repaint' has no option 'cycle'; its options: cycles"),
        ({"type": "none", "cycles": 2}, "constraint 'none' has no option 'cycles'; its options: none"),
    ):
        with pytest.raises(UserError, match=words):
            pullback.Sampler(rep, [0, 1], gaussian(6).denoise, sigmas, constraint=constraint)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="cycle"):
        pullback.Repaint(cycles=0)
    for fresh in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="share"):
            pullback.Projection(fresh=fresh)


class ManyLinear(nn.Module):
    """N independent θ behind one matrix [d,n], in one view: row i of it shows A θ_i. One run is N samples."""

    def __init__(self, matrix: torch.Tensor, count: int):
        super().__init__()
        self.matrix = matrix
        self.theta = nn.Parameter(torch.zeros(count, matrix.shape[1], dtype=D))

    def render(self, views):
        return (self.theta @ self.matrix.T)[None, None]


@pytest.fixture(scope="module")
def covariance_errors() -> dict[int, float]:
    """Relative Frobenius error of the sampled covariance against the exact conditional, by RePaint cycles.

    Exact: x ~ N(0, Σ) under x = Aθ is θ ~ N(0, (AᵀΣ⁻¹A)⁻¹). d = 16, n = 6, 4 000 samples, 50 levels.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(16, 6, generator=generator, dtype=D))[0]
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=D))[0]
    cov = rotation @ torch.diag(torch.logspace(-1.0, 0.6, 16, dtype=D)) @ rotation.T
    prior = priors.GaussianPrior(torch.zeros(1, 1, 16, dtype=D), cov)
    exact = torch.linalg.inv(matrix.T @ torch.linalg.inv(cov) @ matrix)

    def denoise(noisy, sigma, views):
        return prior.denoise(noisy[0, 0, :, None, None], sigma)[None, None, :, 0, 0]

    errors = {}
    for cycles in (1, 2, 4, 8):
        rep = ManyLinear(matrix, 4000)
        pullback.sample(
            rep, [0], denoise, pullback.karras_sigmas(50, 0.02, 30.0), noise="independent",
            constraint=pullback.Repaint(cycles),
            solver=pullback.GaussNewton(iterations=1, cg_iterations=1), generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        found = rep.theta.detach().T @ rep.theta.detach() / 4000
        errors[cycles] = float((found - exact).norm() / exact.norm())
    return errors


def test_the_plain_flow_ignores_the_constraint(covariance_errors):
    assert covariance_errors[1] > 0.3


def test_repaint_approaches_the_exact_conditional(covariance_errors):
    # 4 000 samples of 6 dimensions leave a relative error of about √(7/4 000) = 0.04
    errors = list(covariance_errors.values())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1
