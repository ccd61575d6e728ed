"""Goodness of fit, distances of distributions and coverage, against published tables and brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from pullback.evaluate.exact_worlds import measures, statistics

D = torch.float64


@pytest.mark.parametrize("dof,critical,p", [(1, 3.841459, 0.05), (3, 16.266236, 0.001), (15, 24.995790, 0.05)])
def test_chi_square_at_the_tables_critical_values(dof, critical, p):
    # two cells moved by ±x: the statistic is 2x²/e, with e the equal expectation of all cells
    weights, expected = torch.full((dof + 1,), 1 / (dof + 1), dtype=D), 1000.0
    counts = torch.full((dof + 1,), expected, dtype=D)
    shift = math.sqrt(critical * expected / 2)
    counts[0] += shift
    counts[1] -= shift
    found = statistics.chi_square(counts, weights)
    assert found.statistic == pytest.approx(critical, rel=1e-9) and found.dof == dof
    assert found.p == pytest.approx(p, rel=1e-6)


def test_chi_square_errs_as_often_as_it_says_at_the_sizes_we_use():
    # 64 draws of 16 scenes weighted as in weighted-shapes: 1.6 to 6.4 expected in a cell
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1]).repeat(4) / 4
    drawn = torch.multinomial(weights, 64 * 4000, replacement=True, generator=torch.Generator().manual_seed(0))
    ps = [statistics.chi_square(torch.bincount(row, minlength=16), weights).p for row in drawn.view(4000, 64).unbind()]
    rejected = sum(p < 0.01 for p in ps) / len(ps)
    assert 0.005 < rejected < 0.02  # binomial deviation of 4 000 tries: 0.0016


def test_two_sample_chi_square_of_a_fourfold_table():
    # for a 2×2 table the statistic is N (ad − bc)² / (product of the four margins)
    found = statistics.two_sample_chi_square(torch.tensor([10, 0, 20]), torch.tensor([30, 0, 5]))
    assert found.statistic == pytest.approx(65 * (10 * 5 - 20 * 30) ** 2 / (30 * 35 * 40 * 25)) and found.dof == 1
    assert found.p == pytest.approx(math.erfc(math.sqrt(found.statistic / 2)), rel=1e-9)
    same = torch.tensor([3, 4, 5])
    assert statistics.two_sample_chi_square(same, 4 * same)[::2] == (pytest.approx(0), pytest.approx(1))
    assert statistics.two_sample_chi_square(torch.tensor([5, 0]), torch.tensor([7, 0])).p == 1


def test_two_sample_chi_square_errs_as_often_as_it_says():
    # 64 NeRFs against 256 pictures, six colours, one of them rare
    weights = torch.tensor([0.25, 0.2, 0.2, 0.15, 0.15, 0.05])
    drawn = torch.multinomial(weights, 320 * 3000, replacement=True, generator=torch.Generator().manual_seed(0))

    def counts(values):
        return torch.bincount(values, minlength=6)

    ps = [statistics.two_sample_chi_square(counts(r[:64]), counts(r[64:])).p for r in drawn.view(3000, 320).unbind()]
    assert 0.005 < sum(p < 0.01 for p in ps) / len(ps) < 0.018  # binomial deviation of 3 000 tries: 0.0018


def test_total_variation():
    weights = torch.tensor([0.5, 0.25, 0.25])
    assert statistics.total_variation(torch.tensor([2, 1, 1]), weights) == 0
    assert statistics.total_variation(torch.tensor([0, 0, 7]), weights) == pytest.approx(0.75)


@pytest.mark.parametrize("x,p", [(1.2238, 0.10), (1.3581, 0.05), (1.6276, 0.01), (0.8276, 0.50)])
def test_kolmogorov_distribution_at_the_tables_critical_values(x, p):
    assert float(statistics.kolmogorov(x)) == pytest.approx(p, rel=1e-3)


def test_kolmogorov_smirnov_distance_by_brute_force():
    values = torch.rand(37, generator=torch.Generator().manual_seed(1), dtype=D)
    grid = torch.cat([values, values - 1e-12])
    brute = max(abs(float((values <= x).double().mean()) - float(x)) for x in grid)
    assert statistics.kolmogorov_smirnov(values)[0] == pytest.approx(brute, abs=1e-9)


def test_kolmogorov_smirnov_errs_as_often_as_it_says():
    values = torch.rand(4000, 16, generator=torch.Generator().manual_seed(2), dtype=D)
    rejected = sum(statistics.kolmogorov_smirnov(row)[1] < 0.05 for row in values) / 4000
    assert 0.037 < rejected < 0.063  # four binomial deviations
    assert statistics.kolmogorov_smirnov(0.5 + 0.5 * values[0])[1] < 1e-3


def test_expected_distinct_and_its_band_by_enumeration():
    weights, draws = torch.tensor([0.6, 0.3, 0.1], dtype=D), 4
    shares = torch.zeros(4, dtype=D)
    for outcome in itertools.product(range(3), repeat=draws):
        shares[len(set(outcome))] += weights[list(outcome)].prod()
    mean = float(shares @ torch.arange(4, dtype=D))
    assert statistics.expected_distinct(draws, weights) == pytest.approx(mean, abs=1e-12)
    assert float(shares[1]) == pytest.approx(0.6**4 + 0.3**4 + 0.1**4)
    assert statistics.distinct_band(draws, weights) == (1, 3)  # 1 in 14 % and 3 in 32 % of cases


def test_sixteen_seeds_of_sixteen_scenes_show_ten():
    weights = torch.full((16,), 1 / 16)
    assert statistics.expected_distinct(16, weights) == pytest.approx(10.3, abs=0.05)
    assert statistics.expected_distinct(24, weights) == pytest.approx(12.6, abs=0.05)
    low, high = statistics.distinct_band(64, weights)
    assert (low, high) == (14, 16) or (low, high) == (15, 16)


def test_measures_of_a_known_set_of_rows():
    labels = [{"front": f, "back": b} for f in ("red", "blue") for b in ("red", "blue")]
    rows = [
        {"scene": k, "rms": 0.01 * (k + 1), "blend": k == 3, "consistent": k != 2} for k in (0, 0, 0, 1, 2, 3, 3, 0)
    ]
    found = measures.of_scenes(rows, labels, torch.full((4,), 0.25))
    assert (found["samples"], found["blends"], found["consistent"], found["distinct"]) == (8, 2, 7, 4)
    assert found["symmetric"] == pytest.approx(6 / 8)
    assert found["scenes TV"] == pytest.approx(0.25)
    assert found["front shares"] == "red 0.62 blue 0.38" and found["back TV"] == pytest.approx(0.125)
    assert (found["rms median"], found["rms max"]) == (pytest.approx(0.015), pytest.approx(0.04))


def test_evenly_filled_numbers_are_uniform():
    labels = [{"size": 0.7 + 0.4 * (k + 0.5) / 50} for k in range(50)]
    rows = [{"scene": k, "rms": 0.0, "blend": False, "consistent": True} for k in range(50)]
    weights = torch.full((50,), 0.02)
    assert measures.of_scenes(rows, labels, weights)["size KS p"] > 0.999
    assert measures.of_scenes(rows[:12], labels, weights)["size KS p"] < 1e-3
