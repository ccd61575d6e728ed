"""The measures against values that are known: closed forms, other implementations, statistics of many draws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from pullback.evaluate import metrics
from torch import Tensor


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(*degrees: float, length: float = 1.0) -> Tensor:
    """Vectors in the plane, at angles from the first axis."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return length * torch.stack([angle.cos(), angle.sin()], -1)


# CLIP


def test_the_clip_score_is_a_hundred_cosines_and_never_negative():
    text = at(0)[0]
    assert metrics.clip_score(at(60, length=7.0), text) == pytest.approx(50)
    assert metrics.clip_score(at(0, 60, 180), text) == pytest.approx((100 + 50 + 0) / 3)
    with pytest.raises(ValueError, match="at least one view"):
        metrics.clip_score(at(), text)


def test_the_clip_score_is_torchmetrics_own():
    from torchmetrics.functional.multimodal import clip_score

    class Model:  # what torchmetrics asks of one, with the features as pictures
        config = None

        def to(self, device: object) -> Model:
            return self

        def get_image_features(self, pixels: Tensor) -> Tensor:
            return pixels.flatten(1)

    images, others = normal(4, 3, 2, 2), normal(4, 3, 2, 2, seed=1)

    def processor(images: list[Tensor], **options: object) -> dict[str, Tensor]:
        return {"pixel_values": torch.stack(images)}

    theirs = clip_score(list(images), list(others), model_name_or_path=lambda: (Model(), processor))
    each = [100 * torch.cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(images, others, strict=True)]
    assert float(theirs) == pytest.approx(max(float(sum(each)) / 4, 0), abs=1e-4)
    # they cut the mean off at 0, we cut each view; where no view is negative the two are one
    good = images + 3 * others[:1]
    theirs = clip_score(list(good), [others[0]] * 4, model_name_or_path=lambda: (Model(), processor))
    assert metrics.clip_score(good.flatten(1), others[0].flatten()) == pytest.approx(float(theirs), abs=1e-4)


def test_r_precision_counts_the_views_that_know_their_prompt():
    texts = at(0, 90, 180)
    views = at(10, 40, 50, 170, length=3.0)
    assert metrics.r_precision(views, texts, 0) == 0.5
    assert metrics.r_precision(views, texts, 1) == 0.25
    assert metrics.r_precision(views, texts, 2) == 0.25
    assert metrics.r_precision(at(45), at(45, 45), 0) == metrics.r_precision(at(45), at(45, 45), 1) == 0  # a tie
    # every view has one prompt: over all prompts the shares make one
    assert sum(metrics.r_precision(normal(400, 16), normal(5, 16, seed=1), own) for own in range(5)) == pytest.approx(1)


def test_clip_iqa_is_a_probability_of_two():
    texts = at(0, 90)
    assert metrics.clip_iqa(at(45), texts) == pytest.approx(0.5)
    gap = math.cos(math.radians(44)) - math.cos(math.radians(46))
    assert metrics.clip_iqa(at(44, length=5.0), texts, 80) == pytest.approx(1 / (1 + math.exp(-80 * gap)))
    assert metrics.clip_iqa(at(44, 46), texts) == pytest.approx(0.5)


def test_clip_iqa_is_torchmetrics_own():
    from torchmetrics.functional.multimodal.clip_iqa import _clip_iqa_compute

    images, texts = normal(6, 512), normal(2, 512, seed=1)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (images, texts)]
    theirs = _clip_iqa_compute(unit[0], unit[1], ["quality"])
    assert isinstance(theirs, Tensor)
    assert metrics.clip_iqa(images, texts) == pytest.approx(float(theirs.mean()), abs=1e-12)


# KID


def brute_kid(x: Tensor, y: Tensor, runs: Tensor | None = None) -> float:
    """runs: of the pictures x; each its own where there are none."""

    def k(a: Tensor, b: Tensor) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def among(z: Tensor, runs: Tensor) -> float:
        pairs = [(i, j) for i, j in itertools.permutations(range(len(z)), 2) if runs[i] != runs[j]]
        return sum(k(z[i], z[j]) for i, j in pairs) / len(pairs)

    runs = torch.arange(len(x)) if runs is None else runs
    return among(x, runs) + among(y, torch.arange(len(y))) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_kid_is_the_formula():
    x, y = normal(7, 5), normal(4, 5, seed=1) + 0.5
    assert metrics.kid(x, y).value == pytest.approx(brute_kid(x, y), rel=1e-12)
    assert metrics.kid(x.float(), y.float()).value == pytest.approx(brute_kid(x, y), rel=1e-5)


def test_kid_is_torchmetrics_own():
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(50, 16), normal(50, 16, seed=1) + 0.2
    assert metrics.kid(x, y).value == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_the_error_of_kid_is_the_jackknifes():
    x, y = normal(6, 3), normal(5, 3, seed=1) + 1
    for runs in (torch.arange(6), torch.tensor([7, 7, 3, 3, 5, 3])):
        groups = (runs, torch.arange(5))
        assert metrics.kid(x, y, groups).value == pytest.approx(brute_kid(x, y, runs), rel=1e-9)
        one = torch.tensor([brute_kid(x[runs != g], y, runs[runs != g]) for g in runs.unique()])
        two = torch.tensor([brute_kid(x, y[torch.arange(5) != i], runs) for i in range(5)])
        variance = sum(float((len(left) - 1) * left.var(correction=0)) for left in (one, two))
        assert metrics.kid(x, y, groups).error == pytest.approx(math.sqrt(variance), rel=1e-5)
    assert metrics.kid(x, y) == metrics.kid(x, y, (torch.arange(6), torch.arange(5)))


def test_kid_of_known_distributions():
    """x ~ N(a, I), y ~ N(0, I) in D dimensions, s = |a|² / D; moments of Gaussians give E k for each pair.

    k = (u + 1)³ with u = x·y/D. Among y, E u = E u³ = 0 and E u² = 1/D. Between the two, E u² = (1 + s)/D, odd moments
    0. Among x: E u = s, E u² = s² + (1 + 2s)/D, E u³ = s³ + 3s(1 + 2s)/D + (6s)/D².
    """
    d, s = 4, 0.5
    shift = torch.full((d,), math.sqrt(s), dtype=torch.float64)
    e1, e2, e3 = s, s**2 + (1 + 2 * s) / d, s**3 + 3 * s * (1 + 2 * s) / d + 6 * s / d**2
    wanted = (1 + 3 * e1 + 3 * e2 + e3) + (1 + 3 / d) - 2 * (1 + 3 * (1 + s) / d)
    draws = 400
    found = [metrics.kid(normal(30, d, seed=i) + shift, normal(20, d, seed=draws + i)) for i in range(draws)]
    values = torch.tensor([k.value for k in found])
    # 4 standard errors: by chance outside once in 16,000
    assert abs(float(values.mean()) - wanted) < 4 * float(values.std()) / math.sqrt(draws)
    # and the jackknife's error is that of the draws, on average, or a little more
    assert 0.9 < float(torch.tensor([k.error for k in found]).mean() / values.std()) < 1.3


def test_kid_of_equal_distributions_is_zero_on_average():
    draws = 400
    values = torch.tensor(
        [metrics.kid(normal(8, 6, seed=i), normal(13, 6, seed=draws + i)).value for i in range(draws)]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(draws)
    assert (values < 0).any()


def test_kid_knows_that_views_of_one_object_go_together():
    """6 objects with 4 equal views each, of the other set's distribution: zero on average by groups, and the error is
    that of the draws; taken singly, equal pairs pass for a distribution that is narrower than it is."""
    runs, draws = (torch.arange(6).repeat_interleave(4), torch.arange(30)), 300
    sets = [(normal(6, 5, seed=i).repeat_interleave(4, 0), normal(30, 5, seed=draws + i)) for i in range(draws)]
    found = [metrics.kid(x, y, runs) for x, y in sets]
    values = torch.tensor([k.value for k in found])
    error = float(values.std()) / math.sqrt(draws)
    assert abs(float(values.mean())) < 4 * error
    assert sum(metrics.kid(x, y).value for x, y in sets) / draws > 20 * error
    assert 0.8 < float(torch.tensor([k.error for k in found]).mean() / values.std()) < 2


def test_kid_asks_for_enough():
    with pytest.raises(ValueError, match="at least 3"):
        metrics.kid(normal(2, 4), normal(5, 4))
    with pytest.raises(ValueError, match="at least 3"):
        metrics.kid(normal(4, 4), normal(5, 4), (torch.tensor([0, 0, 1, 1]), torch.arange(5)))
    with pytest.raises(ValueError, match=r"\[4, 3\]"):
        metrics.kid(normal(4, 3), normal(5, 4))


# Diversity and modes


def test_diversity_of_known_configurations():
    same = normal(1, 3, 8).expand(4, 3, 8)
    assert metrics.diversity(same) == pytest.approx(0, abs=1e-12)
    assert metrics.diversity(torch.eye(5)[:, None]) == pytest.approx(1)
    assert metrics.diversity(at(0, 60, 180)[:, None]) == pytest.approx((0.5 + 2 + 1.5) / 3)
    # view is compared with view: turned by half a circle the two differ, though their sets of views are equal
    assert metrics.diversity(torch.stack([at(0, 180), at(180, 0, length=9.0)])) == pytest.approx(2)
    with pytest.raises(ValueError, match="two seeds"):
        metrics.diversity(same[:1])


def test_modes_of_a_known_histogram():
    weights = {"red": 0.5, "blue": 0.25, "green": 0.25}
    found = metrics.modes(["red"] * 6 + ["blue"] * 6, weights)
    assert found.counts == {"red": 6, "blue": 6, "green": 0} and found.outside == 0
    assert found.total_variation == pytest.approx(0.25)
    assert found.chi_square.statistic == pytest.approx(0 + 9 / 3 + 9 / 3) and found.chi_square.dof == 2
    assert found.chi_square.p == pytest.approx(math.exp(-3))  # of two degrees of freedom
    strange = metrics.modes(["red"] * 2 + ["blue", "green"] + ["two-coloured"] * 4, weights)
    assert strange.outside == 4 and strange.total_variation == pytest.approx(0.5)
    assert strange.chi_square.statistic == pytest.approx(0)
    with pytest.raises(ValueError, match="none of 1"):
        metrics.modes(["pink"], weights)


# Views


def test_janus_tells_a_second_front_from_a_turned_back():
    twice = metrics.janus(at(0, 90, 0, 270))
    assert twice.front_back == pytest.approx(1) and twice.excess == pytest.approx(1)
    turned = metrics.janus(at(0, 60, 120, 60))
    assert turned.front_back == pytest.approx(-0.5) and turned.excess == pytest.approx(-1)
    alike = metrics.janus(at(*[30.0] * 8))
    assert alike.front_back == pytest.approx(1) and alike.excess == pytest.approx(0)
    # of eight views the third is a side and the fifth the back
    assert metrics.janus(at(0, 1, 90, 2, 180, 3, 90, 4)).excess == pytest.approx(-1)
    with pytest.raises(ValueError, match="4, 8, 12"):
        metrics.janus(at(0, 1, 2))


def test_agreement_is_the_mean_cosine_of_pairs():
    assert metrics.agreement(at(5, 5, 5, length=3.0)) == pytest.approx(1)
    assert metrics.agreement(torch.eye(6)) == pytest.approx(0)
    assert metrics.agreement(at(0, 60)) == pytest.approx(0.5)
    # features with a common part and independent rests: its size does not depend on the number of views
    shared, rest = normal(1, 4000), normal(64, 4000, seed=1)
    assert metrics.agreement((shared + rest)[:8]) == pytest.approx(0.5, abs=0.02)
    assert metrics.agreement(shared + rest) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="two views"):
        metrics.agreement(at(0))


def test_the_majority_counts_empty_views_as_of_no_opinion():
    assert metrics.majority(["cube", "cube", "cone", None]) == ("cube", 0.5)
    assert metrics.majority([None, None]) == (None, 0.0)
    with pytest.raises(ValueError, match="one view"):
        metrics.majority([])


def test_divergence_by_its_rule():
    structured = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8).repeat(6, 1, 1, 1)
    assert metrics.diverged(structured) is None

    def with_bad(count: int, value: float) -> str | None:
        pictures = structured.clone()
        pictures[:count] = value
        return metrics.diverged(pictures)

    for value in (-1.0, 0.3, 1.0):  # black, one colour, white
        assert with_bad(3, value) is None  # half is not more than half
        assert "4 of 6" in (with_bad(4, value) or "")
    # the thresholds, in [0,1]: deviation of ± e is e, mean of a picture with structure
    stripes = torch.tensor([-1.0, 1.0]).repeat(3 * 32).view(1, 3, 8, 8).repeat(6, 1, 1, 1)
    assert metrics.diverged(2 * (0.5 + 0.0121 * stripes) - 1) is None
    assert "one colour" in (metrics.diverged(2 * (0.5 + 0.0119 * stripes) - 1) or "")
    assert metrics.diverged(2 * (0.0201 + 0.0195 * stripes) - 1) is None
    assert "dark" in (metrics.diverged(2 * (0.0199 + 0.0195 * stripes) - 1) or "")


def test_divergence_without_output():
    structured = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8).repeat(6, 1, 1, 1)
    assert metrics.diverged(None) == "It left no pictures."
    assert "fewer than 5" in (metrics.diverged(structured[:4]) or "")
    assert "mesh" in (metrics.diverged(structured, mesh=False) or "")
    structured[2, 0, 0, 0] = math.nan
    assert "View 2" in (metrics.diverged(structured) or "")


# Intervals


def two_level(prompts: int, seeds: int, seed: int, between: float = 1.0, within: float = 1.0) -> dict:
    level, noise = between * normal(prompts, seed=2 * seed), within * normal(prompts, seeds, seed=2 * seed + 1)
    return {(str(p), s): float(level[p] + noise[p, s]) for p in range(prompts) for s in range(seeds)}


@pytest.mark.parametrize("within", [0.5, 2.0])
def test_intervals_cover_the_truth_as_often_as_they_say(within: float):
    """12 prompts × 4 seeds of two-level data around 0, 300 times.

    Were the coverage the nominal 0.95, fewer than 262 of 300 would cover with a chance of 10⁻⁷; were it 0.83, 262 or
    more with one of 2 %. At 0.97 all 300 cover with a chance of 10⁻⁴.
    """
    found = [metrics.mean_interval(two_level(12, 4, seed, within=within)) for seed in range(300)]
    covered = sum(i.low <= 0 <= i.high for i in found)
    assert 262 <= covered < 300
    assert all(i.prompts == 12 and i.runs == 48 for i in found)


def test_the_intervals_width_is_that_of_the_mean():
    """Of prompts that differ alone, the mean's deviation is 1/√P; resampled, (P − 1)/P of its square."""
    widths = [metrics.mean_interval(two_level(100, 2, seed, within=0.0)) for seed in range(5)]
    mean = sum(i.high - i.low for i in widths) / 5
    assert mean == pytest.approx(2 * 1.96 * math.sqrt(0.99) / 10, rel=0.1)


def test_pairs_are_drawn_together():
    second = two_level(12, 4, 0)
    first = {key: value + 0.5 for key, value in second.items()}
    found = metrics.difference_interval(first, second)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    positive = {key: value + 10 for key, value in second.items()}
    double = {key: 2 * value for key, value in positive.items()}
    found = metrics.ratio_interval(double, positive)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_only_pairs_count():
    second = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 4.0}
    found = metrics.difference_interval({("a", 0): 3.0, ("b", 0): 4.0, ("c", 0): 99.0}, second)
    assert (found.value, found.prompts, found.runs) == (1.0, 2, 2)
    with pytest.raises(ValueError, match="in common"):
        metrics.difference_interval({("a", 5): 1.0}, second)
    with pytest.raises(ValueError, match="not 0"):
        metrics.ratio_interval({("a", 0): 1.0}, {("a", 0): 0.0})


def test_every_prompt_counts_alike_however_many_its_seeds():
    values = {("a", 0): 0.0, ("a", 1): 2.0, ("a", 2): 4.0, ("b", 7): 10.0}
    found = metrics.mean_interval(values)
    assert (found.value, found.prompts, found.runs) == (6.0, 2, 4)
    assert 0 <= found.low < 2.5 and found.high == 10  # b drawn twice; a drawn twice, at its lowest


def test_intervals_of_little():
    one = metrics.mean_interval({("a", 0): 3.0})
    assert one == (3.0, 3.0, 3.0, 1, 1)
    constant = metrics.mean_interval({(p, s): 0.7 for p in "abc" for s in range(4)})
    assert (constant.value, constant.low, constant.high) == pytest.approx((0.7, 0.7, 0.7))
    # one prompt: its seeds are drawn alone. Of two seeds a mean is 0, 1/2 or 1, the ends a quarter each
    assert metrics.mean_interval({("a", 0): 0.0, ("a", 1): 1.0})[:3] == (0.5, 0.0, 1.0)
    # one seed a prompt: the prompts alone
    assert metrics.mean_interval({("a", 0): 0.0, ("b", 0): 1.0})[:3] == (0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="no values"):
        metrics.mean_interval({})
    with pytest.raises(ValueError, match="prompt 'a' with seed 1 is nan"):
        metrics.mean_interval({("a", 0): 0.0, ("a", 1): math.nan})


def test_an_interval_comes_out_the_same_again():
    values = two_level(5, 3, 0)
    assert metrics.mean_interval(values) == metrics.mean_interval(dict(reversed(values.items())))
