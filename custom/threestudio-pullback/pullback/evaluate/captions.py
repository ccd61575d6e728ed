"""Captions of the studio's objects: full, partial and view-dependent wording."""

from __future__ import annotations

import random

from .worlds import COLORS, SHAPES, StudioObject

PREFIXES = ("", "", "", "a photo of ", "a DSLR photo of ", "a 3D render of ")
DIRECTIONS = ("side", "front", "back", "overhead")


def random_object(rng: random.Random) -> StudioObject:
    """Half the objects are of one colour (36, equally likely), half of two (180, equally likely)."""
    shape, front = rng.choice(SHAPES), rng.choice(list(COLORS))
    back = front if rng.random() < 0.5 else rng.choice([c for c in COLORS if c != front])
    return StudioObject(shape, front, back)


def random_caption(obj: StudioObject, direction: str, rng: random.Random) -> str:
    """A caption that is true of `obj` seen from `direction`.

    One-coloured objects are called by shape and colour (70 %), shape only ("a cube", 12 %), colour only
    ("a blue object", 12 %) or neither; so "a cube" means every colour equally often. Two-coloured ones are
    named in full (80 %) or by shape and one colour. The view is named three times in five.
    """
    u = rng.random()
    if obj.front == obj.back:
        if u < 0.70:
            text = obj.caption
        elif u < 0.82:
            text = f"a {obj.shape}"
        elif u < 0.94:
            text = f"a {obj.front} object"
        else:
            text = "an object"
    elif u < 0.80:
        text = obj.caption
    elif u < 0.90:
        text = f"a {obj.shape} with a {obj.front} front"
    else:
        text = f"a {obj.shape} with a {obj.back} back"
    view = f", {direction} view" if rng.random() < 0.6 else ""
    return rng.choice(PREFIXES) + text + view


def vocabulary_corpus() -> list[str]:
    """Every wording's words, for the tokenizer."""
    lines = [p + StudioObject(s, f, b).caption for p in PREFIXES for s in SHAPES for f in COLORS for b in COLORS]
    return lines + [f"an object, {d} view" for d in DIRECTIONS] * 50 + [f"a {c} object" for c in COLORS] * 50
