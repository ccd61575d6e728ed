"""The studio seen all round: objects of four sides, marks, groups of views, captions."""

from __future__ import annotations

import random

import pytest
import torch
from pullback import models, resources
from pullback.evaluate.studio import around, captions
from pullback.evaluate.studio import world as worlds
from pullback.evaluate.studio.around import FourSided, Marked
from pullback.evaluate.studio.world import COLORS, SHAPES, StudioObject

GROUP = torch.tensor([25.0]), torch.tensor([0.0])


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_of_the_studio_look_as_they_did(shape: str):
    c2w = around.group_of(torch.tensor([20.0]), torch.tensor([33.0]))
    obj = StudioObject(shape, "red", "cyan")
    assert torch.allclose(around.render(obj, c2w, 32), worlds.render(obj, c2w, 32), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_group_is_traced_once_and_turned(shape: str):
    where = torch.tensor([10.0, 50.0]), torch.tensor([77.0, -20.0])
    patch, shade = around.group_patches(shape, *where, size=24)
    own_patch, own_shade = around.patches(shape, around.group_of(*where), 24)
    # rays that graze an edge may fall on either side of it, by rounding
    assert float((patch != own_patch).double().mean()) < 1e-3
    assert float((shade - own_shade).abs().mean()) < 1e-3


def hue(pictures: torch.Tensor, name: str) -> torch.Tensor:
    """The share of each picture that is nearer to a colour, in any light, than to the others: [V]."""
    colours = torch.nn.functional.normalize(torch.tensor(list(COLORS.values())), dim=1)
    pixels = torch.nn.functional.normalize(pictures.movedim(1, -1) / 2 + 0.5, dim=-1)
    best = (pixels @ colours.T).max(-1)
    return ((best.indices == list(COLORS).index(name)) & (best.values > 0.99)).double().mean((1, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_each_of_four_views_shows_its_own_side_most(shape: str):
    obj = FourSided(shape, "red", "green", "blue", "yellow")
    pictures = around.render(obj, around.group_of(*GROUP), plain=True)
    shares = torch.stack([hue(pictures, name) for name in ("red", "green", "blue", "yellow")])
    assert shares.argmax(0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", around.SIDES)
def test_a_mark_shows_from_its_side(shape: str, side: str):
    pictures = around.render(Marked(shape, "blue", "yellow", side), around.group_of(*GROUP), plain=True)
    shares = hue(pictures, "yellow")
    assert int(shares.argmax()) == around.SIDES.index(side) and 0.01 < float(shares.max()) < 0.1
    opposite = float(shares[around.SIDES.index(side) - 2])
    assert opposite < 0.001 or (shape == "torus" and opposite < float(shares.max()))  # whose hole lets the view through


def test_captions_fit_the_shipped_tokenizer():
    tokenizer = models.load_text_encoder(resources.TINY_MODEL)
    rng = random.Random(0)
    objects = [around.random_object(rng) for _ in range(400)]
    lines = {around.random_caption(obj, rng) for obj in objects}
    assert {type(obj) for obj in objects} == {StudioObject, FourSided, Marked}
    assert all(tokenizer.tokens_cut(line) == 0 for line in lines)
    assert {word for line in lines for word in tokenizer.unknown_words(line)} == {"mark"}  # which is spelt in letters
    assert not any(" view" in line for line in lines)


def test_captions_of_the_studio_are_as_before():
    obj = StudioObject("cube", "red", "red")
    with_view, without = (
        [captions.random_caption(obj, view, random.Random(seed)) for seed in range(50)] for view in ("side", None)
    )
    assert any(line.endswith(", side view") for line in with_view)
    assert all(captions.parse(line.removesuffix(", side view")) is not None for line in with_view)
    assert all(captions.parse(line) is not None for line in without)
