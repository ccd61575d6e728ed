"""Tests of whether samples agree with the known weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import chdtrc, kolmogorov
from torch import Tensor


class ChiSquare(NamedTuple):
    """Pearson's statistic, its degrees of freedom, and the probability of such a large one by chance."""

    statistic: float
    dof: int
    p: float


def chi_square(counts: Tensor, weights: Tensor) -> ChiSquare:
    """Goodness of fit of counts [M] to weights [M], which sum to 1.

    p from the χ² distribution: an approximation, good where most of the expected counts are above 2.
    """
    expected = weights.double() * counts.sum()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return _chi_square(statistic, len(counts) - 1)


def two_sample_chi_square(first: Tensor, second: Tensor) -> ChiSquare:
    """Tests whether counts [M] and [M] come from one distribution: Pearson's test of homogeneity of a 2×M table.

    Kinds that neither sample has do not count; if one kind is left, p is 1. p comes from the χ² distribution, as in
    `chi_square`.
    """
    table = torch.stack([first, second]).double()
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    return _chi_square(float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1)


def _chi_square(statistic: float, dof: int) -> ChiSquare:
    return ChiSquare(statistic, dof, float(chdtrc(dof, statistic)) if dof else 1.0)


def total_variation(counts: Tensor, weights: Tensor) -> float:
    """Half the sum of |share − weight|: 0 for equal distributions, 1 for disjoint ones."""
    return float((counts / counts.sum() - weights.double()).abs().sum() / 2)


def kolmogorov_smirnov(values: Tensor) -> tuple[float, float]:
    """Greatest distance D of the empirical distribution of values [N] in [0, 1] to the uniform one, and its p.

    p by Kolmogorov's series with Stephens' correction for small N (good to a few per cent from N = 8 on).
    Sources: Kolmogorov 1933; Stephens 1970.
    """
    ordered, n = values.double().sort().values, len(values)
    rank = torch.arange(n, dtype=torch.float64)
    distance = float(torch.maximum((rank + 1) / n - ordered, ordered - rank / n).max())
    return distance, float(kolmogorov((math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance))


def expected_distinct(samples: int, weights: Tensor) -> float:
    """The mean number of different outcomes in `samples` draws with these weights [M]: Σ 1 − (1 − w)^n."""
    return float((1 - (1 - weights.double()) ** samples).sum())


def distinct_band(samples: int, weights: Tensor, level: float = 0.95, draws: int = 4000) -> tuple[int, int]:
    """The central interval of the number of different outcomes, from simulated draws with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(weights.double(), samples * draws, replacement=True, generator=generator)
    ordered = drawn.view(draws, samples).sort(1).values
    distinct = (1 + (ordered.diff(dim=1) > 0).sum(1)).double()
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = distinct.quantile(tails).tolist()
    return math.floor(low), math.ceil(high)
