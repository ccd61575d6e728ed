"""What captions ask for."""

from __future__ import annotations

import random

import pytest
from pullback.evaluate.studio import captions
from pullback.evaluate.studio.world import StudioObject, all_objects


def test_every_wording_holds_for_its_object() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        obj = captions.random_object(rng)
        text = captions.random_caption(obj, "side", rng).removesuffix(", side view")
        asked = captions.parse(text)
        assert asked is not None and asked.holds(obj), text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a red cube", 1),
        ("a cube", 6),
        ("a blue object", 6),
        ("an object", 36),
        ("a cube with a red front and a blue back", 1),
        ("a cube with a red front", 5),
        ("a DSLR photo of a cone with a green back", 5),
    ],
)
def test_a_caption_holds_for_so_many_of_the_216(text: str, count: int) -> None:
    asked = captions.parse(text)
    assert asked is not None
    assert sum(asked.holds(obj) for obj in all_objects()) == count


@pytest.mark.parametrize("text", ["a corgi", "a red cube on a table", "a red cube with a blue back", "", "cube"])
def test_other_text_asks_for_nothing_known(text: str) -> None:
    assert captions.parse(text) is None


def test_one_colour_is_not_two() -> None:
    asked = captions.parse("a red cube")
    assert asked is not None and not asked.holds(StudioObject("cube", "red", "blue"))
