"""Model families: each network, given the exact answer in its own coordinates, must give back x0."""

from __future__ import annotations

import math

import pytest
import torch
from pullback import denoiser
from pullback.errors import UserError

ALPHAS = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)


@pytest.fixture
def truth():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    eps = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0, eps


def test_schedule_has_the_models_own_levels():
    schedule = denoiser.VPSchedule(ALPHAS)
    assert schedule.sigma_min == pytest.approx(math.sqrt(1 / float(ALPHAS[0]) - 1), rel=1e-12)
    assert schedule.sigma_max == pytest.approx(math.sqrt(1 / float(ALPHAS[-1]) - 1), rel=1e-12)
    for t in (0, 1, 437, 998, 999):
        assert schedule.t_of_sigma(float(schedule.sigmas[t])) == pytest.approx(t, abs=1e-9)


def test_time_is_linear_in_log_sigma_between_levels():
    schedule = denoiser.VPSchedule(ALPHAS)
    low, high = float(schedule.sigmas[500]), float(schedule.sigmas[501])
    assert schedule.t_of_sigma(math.sqrt(low * high)) == pytest.approx(500.5, abs=1e-9)
    assert schedule.t_of_sigma(low**0.9 * high**0.1) == pytest.approx(500.1, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.01, 20.0, math.nan])
def test_sigma_outside_the_models_range_is_refused(sigma):
    with pytest.raises(UserError, match="outside the model's range"):
        denoiser.VPSchedule(ALPHAS).t_of_sigma(sigma)


@pytest.mark.parametrize("alphas", [ALPHAS.flip(0), ALPHAS[None], torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.5])])
def test_broken_schedules_are_refused(alphas):
    with pytest.raises(UserError):
        denoiser.VPSchedule(alphas)


@pytest.mark.parametrize("t", [3, 250, 900])
@pytest.mark.parametrize("prediction_type", denoiser.PREDICTION_TYPES)
def test_vp_families_recover_x0(truth, t, prediction_type):
    x0, eps = truth
    schedule, alpha = denoiser.VPSchedule(ALPHAS), ALPHAS[t]
    z_expected = alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps
    answer = {
        "epsilon": eps,
        "v_prediction": alpha.sqrt() * eps - (1 - alpha).sqrt() * x0,
        "sample": x0,
    }[prediction_type]

    def net(z, time):
        assert torch.allclose(z, z_expected, atol=1e-12)
        assert time == pytest.approx(t, abs=1e-9)
        return answer

    sigma = float(schedule.sigmas[t])
    found = denoiser.vp_x0(net, schedule, x0 + sigma * eps, sigma, prediction_type)
    assert torch.allclose(found, x0, atol=1e-12)


def test_unknown_prediction_type_is_refused(truth):
    with pytest.raises(UserError, match=r"'noise'.*epsilon"):
        denoiser.vp_x0(lambda z, t: z, denoiser.VPSchedule(ALPHAS), truth[0], 1.0, "noise")


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_flow_matching_recovers_x0(truth, sigma):
    x0, eps = truth
    t = sigma / (1 + sigma)

    def net(z, time):
        assert time == pytest.approx(t)
        assert torch.allclose(z, (1 - t) * x0 + t * eps, atol=1e-12)
        return eps - x0

    assert torch.allclose(denoiser.flow_x0(net, x0 + sigma * eps, sigma), x0, atol=1e-12)


def test_guidance_extrapolates_from_the_unconditional_answer(truth):
    cond, uncond = truth
    assert torch.equal(denoiser.guide(cond, uncond, 0.0), uncond)
    assert torch.allclose(denoiser.guide(cond, uncond, 1.0), cond, atol=1e-15)
    assert torch.allclose(denoiser.guide(cond, uncond, 3.0), 3 * cond - 2 * uncond, atol=1e-14)
