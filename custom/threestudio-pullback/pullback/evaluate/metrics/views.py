"""Measures of the views of one object: how many faces it has, whether they agree, whether they show anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

MIN_VIEWS = 5
DARK, FLAT = 0.02, 0.012


class Janus(NamedTuple):
    """How similar the front and the back look.

    By the studio's classifier, exact pictures of one-coloured objects have 0.99 and more and an excess of 0.00; those
    of two-coloured ones, from height 0, have 0.3 to 0.5 and about −0.4.

    Attributes:
        front_back: The cosine of front and back. For a prompt with one face, 1 is the Janus effect (MV-SDI reports 0.85
            and more with CLIP ViT-B/32 for it, 0.3 to 0.5 without). An object that is the same all round has 1 as well,
            so methods have to be compared on equal prompts.
        excess: front_back minus the mean cosine of the front and the two sides. Above 0 there is a second front; about
            0 the object is the same all round; below 0 a view differs the more from the front the farther round it is,
            as it should for an object with a front and a back.
    """

    front_back: float
    excess: float


def janus(features: Tensor) -> Janus:
    """Front/back similarity of an object's turntable.

    Source: the front/back cosine of MV-SDI's evaluation (scripts/evaluate.py of its repository). The comparison with
    the sides is ours.

    Args:
        features: [V,D] of views evenly round the object, the front first, at one elevation and distance.

    Raises:
        ValueError: V is no multiple of 4.
    """
    count = len(features)
    if features.ndim != 2 or not count or count % 4:
        raise ValueError(f"janus needs features [V,D] of 4, 8, 12 … views evenly round, not {list(features.shape)}")
    unit = F.normalize(features.double(), dim=1)
    side, back, other = (unit[0] @ unit[count * k // 4] for k in (1, 2, 3))
    return Janus(float(back), float(back - (side + other) / 2))


def agreement(features: Tensor) -> float:
    """How far held-out views agree: mean cosine over pairs of views, from about 0 (orthogonal) to 1 (equal).

    The mean is over pairs, so that figures of 8 and of 16 views can be compared. (A cosine with the mean of the other
    views would grow with their number.) Views of an exact object differ too: by the studio's classifier, one-coloured
    objects from the 16 held-out cameras have 0.98 and more, two-coloured ones 0.89 to 0.95.

    Args:
        features: [V,D] of the views.

    Raises:
        ValueError: There is a single view.
    """
    count = len(features)
    if features.ndim != 2 or count < 2:
        raise ValueError(f"agreement needs features [V,D] of at least two views, not {list(features.shape)}")
    unit = F.normalize(features.double(), dim=1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))


class Majority(NamedTuple):
    """The most frequent name of views, and its share of all views, from 0 to 1."""

    name: str | None
    share: float


def majority(names: Sequence[str | None]) -> Majority:
    """The majority of the names of views, such as the shapes of `StudioClassifier.see`.

    A view that shows nothing (None) agrees with no other: if all are empty, the share is 0. Among equally frequent
    names the first counts.

    Raises:
        ValueError: There are no views.
    """
    if not names:
        raise ValueError("a majority needs at least one view")
    counter = Counter(name for name in names if name is not None)
    if not counter:
        return Majority(None, 0.0)
    name, times = counter.most_common(1)[0]
    return Majority(name, times / len(names))


def diverged(pictures: Tensor | None, mesh: bool = True) -> str | None:
    """Why a run counts as diverged, in a sentence; None if it does not.

    The rule is MV-SDI's (scripts/evaluate.py of its repository): fewer than 5 views, or more than half of them dark
    (mean below 0.02 of values in [0,1]) or flat (standard deviation below 0.012). A render that is not finite and a
    missing mesh count too. Before the studio's backdrop an empty picture is not flat; there the classifier finds it.

    Args:
        pictures: Held-out views [V,3,H,W] in [-1,1]; None if the run has none.
        mesh: Whether the run has a mesh, if it was to have one.
    """
    if pictures is None:
        return "It left no pictures."
    if len(pictures) < MIN_VIEWS:
        return f"It left {len(pictures)} pictures, fewer than {MIN_VIEWS}."
    values = pictures.double().flatten(1)
    broken = ~values.isfinite().all(1)
    if broken.any():
        return f"View {int(broken.nonzero()[0])} has a NaN or infinity."
    values = ((values + 1) / 2).clamp(0, 1)
    bad = int(((values.mean(1) < DARK) | (values.std(1, correction=0) < FLAT)).sum())
    if 2 * bad > len(pictures):
        return f"{bad} of {len(pictures)} views are dark or of one colour."
    return None if mesh else "No mesh could be taken from it."
