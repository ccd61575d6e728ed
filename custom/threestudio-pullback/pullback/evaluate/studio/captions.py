"""Captions of the studio's objects: full, partial and view-dependent wording."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from .world import COLORS, SHAPES, StudioObject

PREFIXES = ("", "", "", "a photo of ", "a DSLR photo of ", "a 3D render of ")
DIRECTIONS = ("side", "front", "back", "overhead")


@dataclass(frozen=True)
class Description:
    """What a caption says about an object; None is what it leaves open.

    A caption without a colour means an object of one colour; one with a single side's colour means an object of two.
    """

    shape: str | None
    front: str | None
    back: str | None

    def holds(self, obj: StudioObject) -> bool:
        """Whether the description is true of `obj`."""
        if None in (self.front, self.back) and (obj.front == obj.back) != (self.front == self.back):
            return False
        pairs = (self.shape, obj.shape), (self.front, obj.front), (self.back, obj.back)
        return all(value in (None, own) for value, own in pairs)


def parse(caption: str) -> Description | None:
    """Reads one of `random_caption`'s wordings, without its view; returns None for any other text."""
    prefixes, colours, things = ("|".join(words) for words in (filter(None, PREFIXES), COLORS, (*SHAPES, "object")))
    sides = rf" with a ({colours}) (front|back)(?: and a ({colours}) back)?"
    pattern = rf"(?:{prefixes})?an? (?:({colours}) )?({things})(?:{sides})?"
    match = re.fullmatch(pattern.lower(), caption.strip().lower())
    if match is None or (match[1] and match[3]) or (match[4] == "back" and match[5]):
        return None
    shape = None if match[2] == "object" else match[2]
    if match[1]:
        return Description(shape, match[1], match[1])
    if match[3] is None:
        return Description(shape, None, None)
    return Description(shape, match[3], match[5]) if match[4] == "front" else Description(shape, None, match[3])


def random_object(rng: random.Random) -> StudioObject:
    """Half the objects are of one colour (36, equally likely), half of two (180, equally likely)."""
    shape, front = rng.choice(SHAPES), rng.choice(list(COLORS))
    back = front if rng.random() < 0.5 else rng.choice([c for c in COLORS if c != front])
    return StudioObject(shape, front, back)


def random_caption(obj: StudioObject, direction: str | None, rng: random.Random) -> str:
    """A caption that is true of `obj` from `direction`; None for a caption of several views.

    The caption of a one-coloured object has shape and colour (70 %), the shape only ("a cube", 12 %), the colour only
    ("a blue object", 12 %) or neither; so "a cube" means every colour equally often. That of a two-coloured object has
    the shape and both colours (80 %) or one. Three captions in five have the view.
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
    view = f", {direction} view" if direction and rng.random() < 0.6 else ""
    return rng.choice(PREFIXES) + text + view


def vocabulary_corpus() -> list[str]:
    """Captions with the words of every wording, for the tokenizer."""
    lines = [p + StudioObject(s, f, b).caption for p in PREFIXES for s in SHAPES for f in COLORS for b in COLORS]
    return lines + [f"an object, {d} view" for d in DIRECTIONS] * 50 + [f"a {c} object" for c in COLORS] * 50
