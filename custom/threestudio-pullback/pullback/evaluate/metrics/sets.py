"""Sets of samples, compared with the model's own, with each other, and with known weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..exact_worlds.statistics import ChiSquare, chi_square, total_variation


class Kid(NamedTuple):
    """A squared maximum mean discrepancy and its standard error. Around 0, or below, for equal distributions."""

    value: float
    error: float


def kid(first: Tensor, second: Tensor, groups: tuple[Tensor, Tensor] | None = None) -> Kid:
    """Kernel distance of two sets of features [N,D] and [M,D]: the unbiased MMD² with kernel (x·y / D + 1)³.

    Mean of k over pairs of different x, plus that over pairs of different y, minus twice that over x with y. Source:
    Bińkowski et al. 2018 (KID), on the whole sets rather than on subsets.

    The error is a jackknife's over both sets (Efron & Stein 1981), which rather overstates it. The value is unbiased
    for independent groups. It is too low for a set that is balanced on purpose, such as one picture of each object,
    which has fewer equal pairs; so compare sets that were drawn in one way.

    Args:
        first: Features [N,D].
        second: Features [M,D].
        groups: The group of each picture, [N] and [M], such as its run; None if all pictures are independent. Pairs
            within a group do not count, and the jackknife leaves out whole groups.

    Raises:
        ValueError: A set has fewer than 3 pictures or groups.
    """
    x, y = first.double(), second.double()
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"kid needs two sets of features [N,D] and [M,D], not {list(x.shape)} and {list(y.shape)}")
    members = [_membership(g, len(z)) for g, z in zip(groups or (None, None), (x, y), strict=True)]
    if min(m.shape[1] for m in members) < 3:
        raise ValueError("kid needs at least 3 pictures, or 3 groups of them, in each of the sets")
    (x_all, x_without), (y_all, y_without) = (_within(z, m) for z, m in zip((x, y), members, strict=True))
    cross = _kernel(x, y)
    value = x_all + y_all - 2 * cross.mean()
    # what is left of the whole when one group is left out of x, and out of y
    left_x = x_without + y_all - 2 * _mean_without(cross, members[0])
    left_y = x_all + y_without - 2 * _mean_without(cross.T, members[1])
    variance = sum((len(t) - 1) * t.var(correction=0) for t in (left_x, left_y))
    return Kid(float(value), float(variance) ** 0.5)


def diversity(features: Tensor) -> float:
    """How unlike the seeds of one prompt are: mean over pairs of seeds and over views of 1 − cosine, from 0 to 2.

    It is 0 for equal objects and 1 for orthogonal features. The cosine serves CLIP, which is trained by it and whose
    features have lengths without meaning, and the studio's classifier, whose features have one length: for them this
    is half the squared distance of unit vectors.

    Args:
        features: [S,V,D] of S seeds, from the same V cameras. Each view is compared with the same view.

    Raises:
        ValueError: There is a single seed.
    """
    if features.ndim != 3 or len(features) < 2 or not features.shape[1]:
        raise ValueError(f"diversity needs features [S,V,D] of at least two seeds, not {list(features.shape)}")
    unit, count = F.normalize(features.double(), dim=-1), len(features)
    # all ordered pairs at once: |Σ u|² = Σ cos over pairs + S
    cosines = (unit.sum(0).square().sum(-1) - unit.square().sum(-1).sum(0)) / (count * (count - 1))
    return float(1 - cosines.mean())


class Modes(NamedTuple):
    """How many samples are in each mode, how many in none, and how that agrees with the known weights."""

    counts: dict[str, int]
    outside: int
    total_variation: float
    chi_square: ChiSquare


def modes(names: Sequence[str], weights: Mapping[str, float]) -> Modes:
    """The histogram of samples over modes of known weights.

    The total variation is of all samples, from 0 to 1, where those outside of the modes count as a mode of weight 0;
    χ² is of the samples in modes.

    Args:
        names: The mode of each sample, or another name for a sample that is in none.
        weights: The weight of each mode; they sum to 1.

    Raises:
        ValueError: No sample is in any mode.
    """
    counter = Counter(names)
    counts = {name: counter.pop(name, 0) for name in weights}
    inside, share = torch.tensor(list(counts.values())), torch.tensor(list(weights.values()), dtype=torch.float64)
    if not int(inside.sum()):
        raise ValueError(f"none of {len(names)} found is one of the modes {', '.join(weights)}")
    outside = counter.total()
    whole = torch.cat([inside, torch.tensor([outside])]), torch.cat([share, share.new_zeros(1)])
    return Modes(counts, outside, total_variation(*whole), chi_square(inside, share))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _membership(groups: Tensor | None, count: int) -> Tensor:
    """[N,G] of 0 and 1: which group each of N pictures is in; each its own where none are given."""
    groups = torch.arange(count) if groups is None else groups
    return F.one_hot(groups.unique(return_inverse=True)[1]).double()


def _within(x: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the kernel over pairs from different groups: of all, and [G] without each group."""
    pairs, sizes = _kernel(x, x) * (1 - members @ members.T), members.sum(0)
    count = len(x) ** 2 - sizes.square().sum()
    without = pairs.sum() - 2 * members.T @ pairs.sum(1)
    return pairs.sum() / count, without / (count - 2 * sizes * (len(x) - sizes))


def _mean_without(cross: Tensor, members: Tensor) -> Tensor:
    """[G] means of [N,M] without the rows of each group."""
    rows = cross.mean(1)
    return (rows.sum() - members.T @ rows) / (len(rows) - members.sum(0))
