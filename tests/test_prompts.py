"""The prompt processor: threestudio's wording and sectors, a cache that follows content, clear errors."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pullback import host, models
from pullback.errors import UserError
from pullback.host import embeddings, prompts
from safetensors.torch import load_file, save_file
from tiny_pipeline import MAX_TOKENS, build

KIND = "stable-diffusion-prompt-processor"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(autouse=True)
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(built, tmp_path / "tiny"))


def _processor(**keys: object) -> prompts.StableDiffusionPromptProcessor:
    block = {"prompt": "a red cube", "pretrained_model_name_or_path": "tiny"} | keys
    config = OmegaConf.create({"system": {"prompt_processor": block}})
    return host.find(KIND)(config.system.prompt_processor)


def _cameras(*pairs: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    elevation, azimuth = torch.tensor(pairs, dtype=torch.float32).T
    return elevation, azimuth, torch.full_like(azimuth, 2.0)


def _embed(*texts: str) -> torch.Tensor:
    return models.load("tiny").encode_prompt(list(texts))


def test_sectors():
    azimuth = torch.tensor([0, 44.9, 45.1, 90, 134.9, 135.1, 180, 225.1, 314.9, 315.1, 360, -44.9, -180])
    sides = embeddings.directions(torch.zeros_like(azimuth), azimuth, 45, 45, 60)
    names = [embeddings.DIRECTIONS[i] for i in sides]
    expected = {0: "front", 2: "side", 5: "back", 7: "side", 9: "front", 12: "back"}
    assert [names[i] for i in expected] == list(expected.values())
    assert [i for i in range(1, 13) if names[i] != names[i - 1]] == [2, 5, 7, 9, 12]
    assert (embeddings.directions(torch.full_like(azimuth, 60.1), azimuth, 45, 45, 60) == embeddings.OVERHEAD).all()
    both = embeddings.directions(torch.zeros(1), torch.tensor([90.0]), 100, 100, 60)
    assert both.item() == embeddings.BACK


def test_each_camera_gets_the_wording_of_its_side():
    utils = _processor(negative_prompt="a ball")()
    assert utils.use_perp_neg is False
    mixed = utils.get_text_embeddings(*_cameras((0, 90), (0, 0), (0, 180), (80, 0)))
    sides = _embed(*(f"a red cube, {side} view" for side in ("side", "front", "back", "overhead")))
    expected = torch.cat([sides, _embed("a ball").expand(4, -1, -1)])
    assert mixed.shape == (8, MAX_TOKENS, 16)
    assert torch.allclose(mixed, expected, atol=1e-6)
    plain = utils.get_text_embeddings(*_cameras((0, 90), (0, 0)), view_dependent_prompting=False)
    assert torch.allclose(plain, _embed("a red cube", "a red cube", "a ball", "a ball"), atol=1e-6)


def test_words_in_front_and_words_of_ones_own():
    processor = _processor(view_dependent_prompt_front=True, prompt_back="the back of a cube")
    assert processor.prompts_vd == [
        "side view of a red cube",
        "front view of a red cube",
        "the back of a cube",
        "overhead view of a red cube",
    ]


def test_cached_embeddings_are_the_computed_ones_bit_for_bit(monkeypatch: pytest.MonkeyPatch):
    cameras = _cameras((0, 90), (0, 0), (0, 180), (80, 0))
    first = _processor()().get_text_embeddings(*cameras)
    monkeypatch.setattr(models.TextEncoder, "embed", None)
    again = _processor()().get_text_embeddings(*cameras)
    assert torch.equal(first, again)


def test_new_weights_under_the_old_path_are_embedded_anew(folder: Path):
    before = _processor()().text_embeddings
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    name = next(key for key in state if key.endswith("final_layer_norm.bias"))
    state[name] += 1
    save_file(state, file, metadata={"format": "pt"})
    after = _processor()().text_embeddings
    assert torch.allclose(after, before + 1, atol=1e-5)


def test_an_encoder_that_cannot_be_read_is_refused_by_its_key(folder: Path):
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"nonsense")
    words = r"^`system\.prompt_processor\.pretrained_model_name_or_path`: .*text_encoder cannot be loaded"
    with pytest.raises(UserError, match=words):
        _processor(use_cache=False)


def test_other_weights_of_the_unet_leave_the_cache_valid(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = _processor()().text_embeddings
    shutil.rmtree(folder / "unet")
    build(folder.parent / "other", seed=1)
    shutil.copytree(folder.parent / "other" / "unet", folder / "unet")
    monkeypatch.setattr(models.TextEncoder, "embed", None)
    assert torch.equal(_processor()().text_embeddings, before)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 9])
def test_a_damaged_cache_file_is_made_again(content: bytes):
    before = _processor()().text_embeddings_vd
    files = list(prompts.CACHE.glob("*"))
    assert len(files) == 6
    for file in files:
        file.write_bytes(content)
    assert torch.equal(_processor()().text_embeddings_vd, before)
    assert all(load_file(file) for file in files)


def test_a_cache_that_cannot_be_written_costs_time_only(caplog: pytest.LogCaptureFixture):
    # a file where the folder should be: refused for every user, root included
    prompts.CACHE.parent.mkdir(parents=True)
    prompts.CACHE.touch()
    with caplog.at_level(logging.WARNING, "pullback"):
        assert _processor()().text_embeddings.shape == (1, MAX_TOKENS, 16)
    assert "not cached" in caplog.text


def test_perp_neg_mixes_the_nearest_sides_and_steers_away_from_them():
    utils = _processor(use_perp_neg=True, negative_prompt="a ball")()
    assert utils.use_perp_neg is True
    texts, weights = utils.get_text_embeddings_perp_neg(*_cameras((0, 30), (0, -120), (80, 0)))
    side, front, back, overhead = _embed(*(f"a red cube, {s} view" for s in ("side", "front", "back", "overhead")))
    nothing = _embed("a ball")[0]
    expected = [
        (2 * front + side) / 3, (2 * side + back) / 3, overhead,  # 30° is a third of the way to the side
        nothing, nothing, nothing,
        front, side, side, front, nothing, nothing,
    ]  # fmt: skip
    assert torch.allclose(texts, torch.stack(expected), atol=1e-6)
    front_side = (2.426 - 4 * math.exp(-0.5 * 2 / 3), 2.426 - 4 * math.exp(-0.5 / 3))
    side_back = (0.606 - math.exp(-0.5 * 2 / 3), -0.967 - math.exp(-0.5 * 2 / 3))
    assert torch.allclose(weights, torch.tensor([front_side, side_back, (0.0, 0.0)]), atol=1e-6)
    with pytest.raises(UserError, match="view_dependent_prompting"):
        utils.get_text_embeddings_perp_neg(*_cameras((0, 30)), view_dependent_prompting=False)


def test_no_cache_leaves_no_files():
    _processor(use_cache=False)
    assert not prompts.CACHE.exists()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"prompt": "???"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt` is empty"),
        ({"prompt": " \n "}, "prompt` is empty"),
        ({"front_threshold": -1}, "front_threshold` is -1"),
        ({"pretrained_model_name_or_path": "none"}, "pretrained_model_name_or_path`: the path 'none'"),
        ({"promt": "a cube"}, "promt"),
    ],
)
def test_what_is_refused(keys: dict, sentence: str):
    with pytest.raises(UserError) as caught:
        _processor(**keys)
    assert f"system.prompt_processor.{sentence}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_prompt_at_all():
    block = {"pretrained_model_name_or_path": "tiny"}
    config = OmegaConf.create({"system": {"prompt_processor": block}})
    with pytest.raises(UserError, match=r"`system\.prompt_processor\.prompt` is not set.*\"a red cube\""):
        host.find(KIND)(config.system.prompt_processor)


def test_a_long_prompt_is_cut_and_said_so(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "pullback"):
        _processor(prompt="a red cube with " * 4)
    # 16 words, a comma, "overhead view" and two marks, in 16 places
    assert "its last 5 are ignored" in caplog.text
    assert "system.prompt_processor.prompt" in caplog.text


def test_words_the_model_never_saw_are_named(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "pullback"):
        _processor(prompt="a red dinosaur of Blue cubes")
    # "cubes" begins with pieces of "cube", "dinosaur" is spelled
    assert "'dinosaur' and 'cubes'" in caplog.text
    assert not any(f"'{known}'" in caplog.text for known in ("red", "of", "blue"))


def test_a_token_that_was_added_is_no_unknown_word():
    encoder = models.load_text_encoder("tiny")
    assert encoder.unknown_words("a red <zebra-toy> zebra") == ["zebra", "toy"]
    encoder.tokenizer.add_tokens(["<zebra-toy>", "sks"])
    assert encoder.unknown_words("a red <zebra-toy>, sks cube") == []
    assert encoder.unknown_words("a red <zebra-toy> zebra") == ["zebra"]
