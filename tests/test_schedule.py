"""Noise levels against the published formula, and the guard at the sampler's door."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.errors import UserError
from pullback.sampling import schedule


def test_ends_are_exact_and_last_is_zero():
    sigmas = schedule.karras_sigmas(20, 0.05, 40.0)
    assert sigmas.shape == (21,) and sigmas.dtype == torch.float64
    assert (float(sigmas[0]), float(sigmas[-2]), float(sigmas[-1])) == (40.0, 0.05, 0.0)


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_levels_are_equally_spaced_in_the_rho_th_root(rho):
    roots = schedule.karras_sigmas(11, 0.1, 80.0, rho)[:-1] ** (1 / rho)
    steps = roots[1:] - roots[:-1]
    assert torch.allclose(steps, steps[0].expand(10), rtol=1e-9)


def test_settling_levels_slow_down_in_the_logarithm():
    sigmas = schedule.settling_sigmas(11, 0.05, 40.0, power=3.0)
    assert sigmas.shape == (12,) and sigmas.dtype == torch.float64 and float(sigmas[-1]) == 0
    way_left = (sigmas[:-1] / 0.05).log() / math.log(40.0 / 0.05)
    assert torch.allclose(way_left ** (1 / 3), torch.linspace(1, 0, 11, dtype=torch.float64), atol=1e-5)
    ratios = schedule.settling_sigmas(6, 0.1, 10.0, power=1.0)[:-1].log().diff()
    assert torch.allclose(ratios, ratios[0].expand(5), rtol=1e-9)


@pytest.mark.parametrize("n,low,high,power", [(0, 0.1, 1, 2), (5, 2, 1, 2), (5, 0.1, 1, 0.5), (5, 0.1, 1, math.nan)])
def test_impossible_settling_schedules_are_refused(n, low, high, power):
    with pytest.raises(UserError):
        schedule.settling_sigmas(n, low, high, power)


@pytest.mark.parametrize("make", [schedule.karras_sigmas, schedule.settling_sigmas])
def test_a_single_level_is_one_jump(make):
    assert make(1, 0.1, 5.0).tolist() == [5.0, 0.0]


@pytest.mark.parametrize(
    "n,low,high,rho",
    [
        (0, 0.1, 1, 7),
        (5, 0, 1, 7),
        (5, 2, 1, 7),
        (5, 0.1, math.inf, 7),
        (5, 0.1, 1, 0.5),
        (5, math.nan, 1, 7),
    ],
)
def test_impossible_schedules_are_refused(n, low, high, rho):
    with pytest.raises(UserError):
        schedule.karras_sigmas(n, low, high, rho)


@pytest.mark.parametrize(
    "levels",
    [
        [1.0, 0.5],
        [1.0, 1.0, 0.0],
        [0.0],
        [1.0, 2.0, 0.0],
        [math.inf, 1.0, 0.0],
        [math.nan, 1.0, 0.0],
        [1.0, math.nan, 0.0],
        [[1.0, 0.0]],
    ],
)
def test_a_sampler_needs_levels_that_fall_to_zero(levels):
    with pytest.raises(UserError, match="sigmas"):
        schedule.check_sigmas(torch.tensor(levels))


def test_checked_levels_are_the_same_numbers():
    sigmas = schedule.karras_sigmas(7, 0.1, 9.0)
    assert schedule.check_sigmas(sigmas) == sigmas.tolist()


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("sigma_max", [999.0, 2254.0])
def test_fewer_than_a_fifth_of_the_levels_lie_above_the_usual_ones(rho, sigma_max):
    for count in (20, 50, 200):
        sigmas = schedule.karras_sigmas(count, 0.03, schedule.highest_sigma(0.03, sigma_max, rho), rho)
        assert 0 < (sigmas > 14.6).sum() < count / 5
    assert schedule.highest_sigma(0.03, 14.61, rho) == 14.61  # a model that ends there keeps its range
