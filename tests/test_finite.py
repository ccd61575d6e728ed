"""Checks for NaN that are looked at together."""

from __future__ import annotations

import copy
import math
from typing import Any

import pullback
import pytest
import torch
from checkpoints import same
from pullback.errors import FiniteChecks, NonFiniteError
from pullback.fitting.linearise import conjugate_gradients
from pullback.sampling.space import Space


def test_numbers_are_read_by_tensor_where_all_is_finite():
    checks = FiniteChecks()
    ones = torch.ones(2, 3)
    assert checks.expect(ones, "the render") is ones
    numbers = torch.tensor([1.0, 2.5], dtype=torch.float64), torch.tensor([3.0])
    assert checks.read(*numbers) == [[1.0, 2.5], [3.0]]
    assert checks.read() == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_that_is_not_finite_is_named_once(bad: float):
    checks = FiniteChecks()
    later = torch.ones(3, 2)
    later[2, 1] = bad
    checks.expect(torch.ones(3), "the render")
    checks.expect(later, "the answer")
    checks.expect(torch.full((1,), bad), "the target")
    with pytest.raises(NonFiniteError, match=r"^the answer has a NaN or infinity in view 2$"):
        checks.read(torch.zeros(1))
    assert checks.read(torch.zeros(1)) == [[0.0]]


class Broken(torch.nn.Module):
    def render(self, views: torch.Tensor) -> torch.Tensor:
        return torch.full((len(views), 1, 2, 2), math.nan)


def test_what_a_nan_makes_fail_is_told_as_the_nan():
    space = Space(Broken(), lambda noisy, sigma, views: noisy)
    with pytest.raises(NonFiniteError, match="the render"):  # outside of a visit at once
        space.render(torch.zeros(2))
    with pytest.raises(NonFiniteError, match="the render"), space.checked_together():
        assert space.render(torch.zeros(2)).isnan().all()
        raise ValueError("a matrix with NaN")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_number_that_nothing_sampled_has_counts_as_an_infinity(dtype: torch.dtype):
    checks, large = FiniteChecks(), torch.zeros(3, 2, dtype=dtype)
    large[1, 1] = -1e20
    checks.expect(torch.full((2, 3), 65504.0, dtype=torch.float16), "the render")
    checks.expect(large, "the answer")
    with pytest.raises(NonFiniteError, match=r"^the answer has a number of size 1.0e\+20 in view 1$"):
        checks.read()


BAD = {"nan": math.nan, "inf": -math.inf, "1e20": 1e20}


class Breaks:
    """White noise, or an answer of 0, of which one number is bad while `bad` is set."""

    kept, bad = True, 0.0

    def draw(self, white: Any, shape: Any) -> torch.Tensor:
        return white(shape)

    def at(self, source: torch.Tensor, views: Any, shape: Any) -> torch.Tensor:
        noise = source.clone()
        noise[1, 0, 0, 1] += self.bad
        return noise

    def __call__(self, noisy: torch.Tensor, sigma: float, views: Any) -> torch.Tensor:
        x0 = torch.zeros_like(noisy)
        x0[1, 0, 0, 1] += self.bad if sigma < 2 else 0.0  # σ of the visit is 2, that of Heun's second call 1
        return x0


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("what", ["the noise", "the denoiser's answer"])
def test_a_failed_visit_leaves_parameters_and_moments_as_they_were(value: str, what: str):
    noise, denoise = Breaks(), Breaks()
    sampler = pullback.Sampler(
        pullback.diffreps.Pixels(2, 3, 4), torch.arange(2), denoise, torch.tensor([4.0, 2.0, 1.0, 0.0]), noise=noise,
        solver=pullback.FirstOrder(steps=2), order=2, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    state = sampler.visit(sampler.initial())
    before = copy.deepcopy([sampler.diffrep.state_dict(), sampler.solver.state_dict()])
    broken = noise if what == "the noise" else denoise
    broken.bad = BAD[value]
    with pytest.raises(NonFiniteError, match=rf"^stopped at level 1, cycle 0, sigma 2: {what} has a N?.* in view 1$"):
        sampler.visit(state)
    assert same(before, [sampler.diffrep.state_dict(), sampler.solver.state_dict()])


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_product_with_the_derivative_is_looked_at(value: str):
    def matrix(v: torch.Tensor) -> torch.Tensor:
        return v.clone().index_fill(0, torch.tensor([2]), BAD[value])

    with pytest.raises(NonFiniteError, match="the derivative of the render has"):
        conjugate_gradients(matrix, torch.ones(4), 1, 1e-6)
