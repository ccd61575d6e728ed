"""Textual inversion: prompts with a file's words are embedded as by diffusers, whatever program wrote the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import family_contract as contract
import pytest
import tiny_parts
import torch
from pullback import models
from safetensors.torch import save_file
from test_family_stable_diffusion_xl import build as build_xl
from tiny_pipeline import build

PROMPT = "a red <cat-toy> and a ball"


def rows(count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_of_one_embedding_or_several(folder: Path, tmp_path: Path, count: int):
    file = tmp_path / "cat.safetensors"
    save_file({"<cat-toy>": rows(count)}, file)
    model, plain, pipe = models.load(folder, textual_inversion=[file]), models.load(folder), contract.pipeline(folder)
    pipe.load_textual_inversion(str(file))
    theirs, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    found = model.encode_prompt([PROMPT])
    assert torch.allclose(found, theirs, atol=1e-6) and not torch.allclose(found, plain.encode_prompt([PROMPT]))
    assert torch.allclose(model.encode_prompt(["a ball"]), plain.encode_prompt(["a ball"]), atol=1e-6)
    assert model.text.unknown_words(PROMPT) == [] and model.text.unknown_words("a dog") == ["dog"]
    assert model.text.tokens_cut("<cat-toy> " * 16) == count * 16 + 2 - 16
    assert model.embeds_prompts and model.text.fingerprint() != plain.text.fingerprint()
    assert not any(p.requires_grad for p in model.text.network.parameters())


@pytest.mark.parametrize("end", [".safetensors", ".pt"])
def test_files_of_other_programs_are_named_after_their_word(folder: Path, tmp_path: Path, end: str):
    file, embeddings = tmp_path / f"sks{end}", rows(2)
    if end == ".pt":
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": embeddings}, "name": "other"}, file)
    else:
        save_file({"emb_params": embeddings}, file)
    model, pipe = models.load(folder, textual_inversion=[file]), contract.pipeline(folder)
    pipe.load_textual_inversion(embeddings, token="sks")
    theirs, _ = pipe.encode_prompt("a sks ball", "cpu", 1, False)
    assert torch.allclose(model.encode_prompt(["a sks ball"]), theirs, atol=1e-6)
    assert model.text.unknown_words("a sks ball") == []


def test_both_encoders_of_sdxl(tmp_path: Path):
    folder, file = build_xl(tmp_path / "model", second=24), tmp_path / "sks.safetensors"
    parts = {"clip_l": rows(2), "clip_g": rows(2, 24, 1)}
    save_file(parts, file)
    model, pipe = models.load(folder, textual_inversion=[file]), contract.pipeline(folder)
    pipe.load_textual_inversion(parts["clip_l"], token="sks", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    second = {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2}
    pipe.load_textual_inversion(parts["clip_g"], token="sks", **second)
    theirs, _, pooled, _ = pipe.encode_prompt("a sks ball", device="cpu", do_classifier_free_guidance=False)
    for _ in range(2):  # encoders that are read again learn it again
        found = model.encode_prompt(["a sks ball"])
        assert torch.allclose(found.tensors["text"], theirs, atol=1e-6)
        assert torch.allclose(found.tensors["pooled"], pooled, atol=1e-6)
        model.text.release()


class Opener:
    def __reduce__(self) -> Any:
        return open, ("opened", "w")


def test_files_that_do_not_fit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def refused(value: Any) -> str:
        return tiny_parts.refusal(folder, textual_inversion=value)

    assert refused([3]).startswith("must be a list of files")
    file = tmp_path / "word.safetensors"
    assert refused([str(file)]) == f"has {file}, which is no file; give one of embeddings"
    file.write_bytes(b"1234567")
    assert refused(str(file)).startswith(f"has {file}, which cannot be read (")
    save_file({"a": rows(1), "b": rows(1)}, file)
    assert refused([file]).startswith(f"has {file}, which holds no embeddings of words")
    save_file({"<new>": rows(1, 24)}, file)
    assert refused([file]).startswith(f"has {file}, whose embeddings have 24 numbers, and the model's have 16; use one")
    save_file({"red</w>": rows(1)}, file)
    assert refused([file]).startswith(f"has {file}, whose word 'red</w>' the model knows")
    save_file({"clip_g": rows(1)}, file)
    assert "which is for another kind of model" in refused([file])
    pickled = tmp_path / "word.bin"
    torch.save({"<new>": Opener()}, pickled)
    assert refused([pickled]).startswith(f"has {pickled}, which cannot be read (")
    assert not (tmp_path / "opened").exists()


def test_two_visits_with_a_word_and_a_lora(folder: Path, tmp_path: Path):
    """As overrides of a run, whose prompt processor knows of neither."""
    word, lora = tmp_path / "cat.safetensors", tmp_path / "lora.safetensors"
    save_file({"<cat-toy>": rows(1)}, word)
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": rows(2, 8), f"{layer}.lora_B.weight": rows(8, 2)}, lora)
    more = [f"system.guidance.textual_inversion=[{word}]", f"system.guidance.lora=[{{path: {lora}, scale: 0.5}}]"]
    contract.two_visits(folder, tmp_path / "out", *more, "system.prompt_processor.prompt=a red <cat-toy>")
