"""Checks for NaN that are looked at together."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.errors import FiniteChecks, NonFiniteError
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
