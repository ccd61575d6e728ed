"""What the views of one object say of it: one face or two, one object or many, or nothing at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

MIN_VIEWS = 5
DARK, FLAT = 0.02, 0.012


class Janus(NamedTuple):
    """How like the front the back looks.

    front_back: cosine of the two. 1: the back looks as the front does, which for a prompt with one face is the Janus
    effect (MV-SDI reports 0.85 and more with CLIP ViT-B/32 for it, 0.3 to 0.5 without); of an object that is the same
    all round it is 1 by rights, so methods compare on equal prompts only.
    excess: front_back minus the mean cosine of the front with the two sides. Above 0: the back looks more like the
    front than the sides do, a second front; about 0: an object that is the same all round; below 0: a view looks the
    less like the front the farther round it is, as it should of a thing with a front and a back. By the studio's
    classifier, exact pictures of one-coloured objects have 0.99 and more and an excess of 0.00, two-coloured ones from
    height 0 have 0.3 to 0.5 and about −0.4.
    """

    front_back: float
    excess: float


def janus(features: Tensor) -> Janus:
    """Front/back similarity of one object's turntable: features [V,D] of V views evenly round it, the first the front.

    The views share elevation, distance and lens. Source: the front/back cosine of MV-SDI's evaluation
    (scripts/evaluate.py of its repository); the comparison with the sides is ours.
    Raises ValueError unless V is a multiple of 4.
    """
    count = len(features)
    if features.ndim != 2 or not count or count % 4:
        raise ValueError(f"janus needs features [V,D] of 4, 8, 12 … views evenly round, not {list(features.shape)}")
    unit = F.normalize(features.double(), dim=1)
    side, back, other = (unit[0] @ unit[count * k // 4] for k in (1, 2, 3))
    return Janus(float(back), float(back - (side + other) / 2))


def agreement(features: Tensor) -> float:
    """How much held-out views agree about what the object is: mean cosine over pairs of views, from about 0 to 1.

    features: [V,D]. 1 where every view has the same features, 0 where they are orthogonal. Over pairs and not against
    the mean of the others, whose direction is the steadier the more views there are, so that figures from 8 and from
    16 views are of one size. Views of a real object differ too: by the studio's classifier, exact pictures of
    one-coloured objects from the 16 held-out cameras have 0.98 and more, of two-coloured ones 0.89 to 0.95.
    Raises ValueError for a single view.
    """
    count = len(features)
    if features.ndim != 2 or count < 2:
        raise ValueError(f"agreement needs features [V,D] of at least two views, not {list(features.shape)}")
    unit = F.normalize(features.double(), dim=1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1)))


class Majority(NamedTuple):
    """What most views show, and the share of all views that show it, from 0 to 1."""

    name: str | None
    share: float


def majority(names: Sequence[str | None]) -> Majority:
    """The majority of what views were named, such as the shapes of `StudioClassifier.see`.

    A view that shows nothing (None) agrees with no other: of empty pictures alone the share is 0. Of equally frequent
    names the first counts. Raises ValueError without views.
    """
    if not names:
        raise ValueError("a majority needs at least one view")
    counter = Counter(name for name in names if name is not None)
    if not counter:
        return Majority(None, 0.0)
    name, times = counter.most_common(1)[0]
    return Majority(name, times / len(names))


def diverged(pictures: Tensor | None, mesh: bool = True) -> str | None:
    """Why a run counts as diverged, in a sentence, or None where it does not.

    pictures: [V,3,H,W] in [-1,1] of held-out views; None where the run left none. mesh: whether a mesh could be taken
    from it, where that was asked for. The rule of MV-SDI (scripts/evaluate.py of its repository): fewer than 5
    views, or more than half of them with, over their values in [0,1], a mean below 0.02 (dark) or a standard deviation
    below 0.012 (flat); besides, a render that is not finite, and a missing mesh. Before a backdrop that varies, as the
    studio's does, an empty picture is not flat: there the classifier's None tells.
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
