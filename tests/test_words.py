"""Prompts that a family embeds itself: a prompt processor says which wording each camera gets, and no more."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback import models
from pullback.host.embeddings import PromptUtils
from pullback.models.embedding_cache import CACHE
from pullback.models.protocol import cat
from test_family_stable_diffusion_xl import build

WORDS = ["a red cube", "a ball", "side", "front", "back", "overhead"]
CAMERAS = (torch.tensor([0.0, 0.0, 80.0]), torch.tensor([0.0, 120.0, 0.0]), torch.full((3,), 2.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.load(build(tmp_path_factory.mktemp("xl")))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def utils(rows: torch.Tensor, negative: str = "a ball") -> PromptUtils:
    prompt, other, views = rows[:1], rows[1:2], rows[2:]
    decays = {"sb": (1, 0.5, -0.606), "fsb": (1, 0.5, 0.967), "fs": (4, 0.5, -2.426), "sf": (4, 0.5, -2.426)}
    return PromptUtils(
        WORDS[0], WORDS[2:], prompt, other, views, other.expand_as(views), 45.0, 45.0, 60.0, True, decays, negative
    )


def test_wordings_and_their_mixtures_are_those_of_the_processor(model: Any):
    """As if the processor itself had held each of the family's tensors."""
    words = models.WordsOf(model, print)(utils(torch.zeros(6, 1, 1)), str)
    parts = [model.encode_prompt([word]) for word in WORDS]
    parts[1] = model.encode_negative_prompt([WORDS[1]])
    table: Any = cat(*parts)
    chosen = words.get_text_embeddings(*CAMERAS, True)
    mixed, weights = words.get_text_embeddings_perp_neg(*CAMERAS, True)
    for name in ("text", "pooled"):
        rows = table.tensors[name].reshape(6, 1, -1)
        plain = utils(rows)
        assert torch.equal(chosen.tensors[name].reshape(6, 1, -1), plain.get_text_embeddings(*CAMERAS, True))
        expected, same = plain.get_text_embeddings_perp_neg(*CAMERAS, True)
        assert torch.allclose(mixed.tensors[name].reshape(12, 1, -1), expected, atol=1e-6)
        assert torch.equal(weights, same)
    text = models.perp_neg_text_of(words, True)
    views = dict(zip(("elevation", "azimuth", "camera_distances"), CAMERAS, strict=True))
    denoise = models.PerpNegDenoiser(model, text, 2.0)
    assert denoise(torch.randn(3, 4, 8, 8), 2.0, views).isfinite().all()


def test_they_are_embedded_once_and_the_encoders_are_freed(model: Any, monkeypatch: pytest.MonkeyPatch):
    first = models.WordsOf(model, print)(utils(torch.zeros(6, 1, 1)), str)
    assert len(list(CACHE.glob("*.safetensors"))) == 6 and model.text._pipe is None
    monkeypatch.setattr(type(model), "embed", None)
    again = models.WordsOf(model, print)(utils(torch.zeros(6, 1, 1)), str)
    one, other = (words.get_text_embeddings(*CAMERAS, False).tensors for words in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_output_without_its_negative_prompt_has_the_runs(model: Any):
    """threestudio's prompt_utils keep no negative prompt."""

    @dataclass
    class Output(PromptUtils):
        negative_prompt: Any = None

    output = Output(**{f.name: getattr(utils(torch.zeros(6, 1, 1)), f.name) for f in fields(PromptUtils)})
    output.negative_prompt = None
    words = models.WordsOf(model, print)(output, lambda: "blue")
    found = words.get_text_embeddings(*CAMERAS, False).tensors["text"][-1]
    assert torch.equal(found, model.encode_negative_prompt(["blue"]).tensors["text"][0])


def test_a_model_of_plain_embeddings_keeps_the_processors():
    class Plain:
        pass

    prompt = utils(torch.zeros(6, 1, 1))
    assert models.WordsOf(Plain(), print)(prompt, str) is prompt
