"""Settle: kept noise while σ is high, new noise below."""

from __future__ import annotations

import math

import pullback
import pytest
import torch
from pullback.constraints import Constraint
from pullback.errors import UserError
from test_constraint import visit

SPREAD = 0.5
SIGMAS = pullback.karras_sigmas(12, 0.05, 8.0, rho=3.0)
PIXELS = 40_000


def expected_variance(settle: float) -> float:
    """Of u at the end, for the identity and the prior N(0, SPREAD²), whose denoiser is linear.

    A visit makes u' = a u + b ε with a = r + (1 − r) c, b = (1 − r) c σ, r = σ'/σ, c = s²/(s² + σ²); so the variance of
    u and its covariance with the ε of the next visit follow exactly.
    """
    variance, covariance = 0.0, 0.0
    for sigma, sigma_next in zip(SIGMAS.tolist(), SIGMAS[1:].tolist(), strict=False):
        r, c = sigma_next / sigma, SPREAD**2 / (SPREAD**2 + sigma**2)
        a, b = r + (1 - r) * c, (1 - r) * c * sigma
        variance, covariance = a * a * variance + 2 * a * b * covariance + b * b, a * covariance + b
        if sigma_next < settle:
            covariance = 0.0
    return variance


@pytest.mark.parametrize("settle", [1e-9, 0.3, 2.0, math.inf])
def test_the_spread_of_a_gaussian_is_what_the_recursion_says(settle: float) -> None:
    field = pullback.diffreps.Pixels(1, 200, 200).double()
    prior = pullback.priors.GaussianPrior(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), SPREAD**2).double())

    def denoise(noisy: torch.Tensor, sigma: float, views: object) -> torch.Tensor:
        return prior.denoise(noisy.reshape(-1, 1), sigma, views).reshape(noisy.shape)

    pullback.sample(
        field, [0], denoise, SIGMAS, constraint=pullback.FreshBelow(settle), solver=pullback.GaussNewton(),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    found = float(field.values.detach().square().mean())
    # the mean square of PIXELS normal numbers has a relative standard deviation of √(2/PIXELS) = 0.0071
    assert found == pytest.approx(expected_variance(settle), rel=5 * math.sqrt(2 / PIXELS))


def test_the_later_noise_settles_the_wider_the_spread() -> None:
    spreads = [expected_variance(settle) for settle in (math.inf, 2.0, 0.3, 0.0)]
    assert spreads == sorted(spreads) and spreads[0] < 0.2 * spreads[-1]


def test_above_it_is_the_constraint_it_wraps() -> None:
    inner = pullback.Repaint(cycles=3)
    above, below = pullback.FreshBelow(1.0, inner), pullback.FreshBelow(1.5, inner)
    assert (above.cycles, above.orders, above.per_view_noise) == (inner.cycles, inner.orders, inner.per_view_noise)
    last = visit(cycle=2)  # from σ = 2 to 1.2
    assert above.renoise(last)[0] is last.source
    new = below.renoise(last)[0]
    assert abs(float((new * last.source).mean())) < 5 / math.sqrt(new.numel())
    assert torch.equal(below.target(last), Constraint().target(last))


def test_a_saved_run_goes_on_bit_for_bit() -> None:
    def begin() -> tuple[pullback.diffreps.Pixels, dict]:
        field = pullback.diffreps.Pixels(1, 4, 4)
        prior = pullback.priors.GaussianPrior(torch.zeros(16), torch.eye(16))
        options = {
            "diffrep": field, "views": [0, 1], "sigmas": SIGMAS,
            "constraint": pullback.FreshBelow(1.0, pullback.Repaint(2)),
            "denoise": lambda noisy, sigma, views: prior.denoise(noisy.flatten(1), sigma, views).view_as(noisy),
        }  # fmt: skip
        return field, options

    field, options = begin()
    states = pullback.steps(**options, generator=torch.Generator().manual_seed(3))
    saved = [state.state_dict() for state in states]
    for at in (5, 17):
        again, options = begin()
        for _ in pullback.steps(**options, generator=torch.Generator().manual_seed(9), resume=saved[at]):
            pass
        assert torch.equal(again.values, field.values)


def test_it_needs_a_sigma() -> None:
    with pytest.raises(UserError, match="sigma above 0"):
        pullback.FreshBelow(0.0)


def test_its_old_name_still_works_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="FreshBelow"):
        old = pullback.Settle(1.0, pullback.Repaint(2))
    new = pullback.FreshBelow(1.0, pullback.Repaint(2))
    assert (old.sigma, old.constraint, old.cycles) == (new.sigma, new.constraint, new.cycles)
