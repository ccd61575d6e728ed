"""Text encoders that another major version of transformers saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_parts as tiny
import torch
import transformers
from pullback import models
from safetensors.torch import load_file, save_file
from test_family_stable_diffusion_3 import build as build_3
from test_schedulers import edit
from tiny_pipeline import build

PROMPTS = ["a red cube", "the side of a blue ball"]


def saved_by_4(place: Path, kind: str, half: bool = False) -> None:
    """Changes an encoder's files to those that transformers 4 wrote of it, seen with 4.28.1 and 4.57.6."""
    file = place / "model.safetensors"
    weights = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    if kind.startswith("CLIP"):
        position_ids = torch.arange(16)[None]
        weights = {name if name.startswith("text_proj") else f"text_model.{name}": t for name, t in weights.items()}
        weights["text_model.embeddings.position_ids"] = position_ids
    if kind == "T5EncoderModel":
        weights["encoder.embed_tokens.weight"] = weights["shared.weight"].clone()
    dtype = torch.float16 if half else torch.float32
    save_file({n: t.to(dtype) if t.is_floating_point() else t for n, t in weights.items()}, file)
    config = json.loads((place / "config.json").read_text())
    for of in (config, config.get("text_config", {})):
        of.pop("dtype", None)
        if "rope_parameters" in of:
            rope = of.pop("rope_parameters")
            of |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": None}
            if "mrope_section" in rope:
                of["rope_scaling"] = {**rope, "type": "mrope"}
    config |= {"transformers_version": "4.28.1", "torch_dtype": str(dtype).removeprefix("torch.")}
    (place / "config.json").write_text(json.dumps(config))


def embedded(folder: Path) -> list[torch.Tensor]:
    text = models.load(folder).encode_prompt(PROMPTS)
    return [text] if isinstance(text, torch.Tensor) else list(text.tensors.values())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("make", [build, build_3])
def test_clip_and_t5_of_version_4_embed_as_before(make: Any, half: bool, tmp_path: Path):
    """In float16 the weights are rounded, and loaded as float32, which transformers 5 leaves in float16."""
    now = make(tmp_path / "now")
    encoders = {place.name: json.loads((place / "config.json").read_text()) for place in now.glob("text_encoder*")}
    if half:
        for name in encoders:
            file = now / name / "model.safetensors"
            save_file({key: tensor.half().float() for key, tensor in load_file(file).items()}, file)
    before = Path(shutil.copytree(now, tmp_path / "before"))
    for name, config in encoders.items():
        saved_by_4(before / name, config["architectures"][0], half)
    for found, expected in zip(embedded(before), embedded(now), strict=True):
        assert found.dtype == expected.dtype == torch.float32
        assert torch.allclose(found, expected, atol=1e-6) and found.std() > 0.01


def qwen_vl() -> Any:
    """Qwen-Image's; its positions have three parts, of which the config's section names the sizes."""
    layers = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0,
        "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(text_config=layers, vision_config=vision)
    return tiny.seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config), 1)


@pytest.mark.parametrize("make", [tiny.gemma2, tiny.qwen3, qwen_vl])
def test_the_positions_of_version_4_are_the_same(make: Any, tmp_path: Path):
    """It named the base of the rotations in another place of the config, where a default must not replace it."""
    place, kind = tmp_path / "text_encoder", type(make()).__name__
    make().save_pretrained(place)
    folder, tokens = models.ModelFolder(tmp_path), {"input_ids": torch.arange(2, 12)[None]}

    def answer() -> torch.Tensor:
        network = folder.network("text_encoder", f"transformers.{kind}")
        with torch.no_grad():
            return network(**tokens, output_hidden_states=True).hidden_states[-1]

    usual = answer()
    config = json.loads((place / "config.json").read_text())
    rope = config.get("text_config", config)["rope_parameters"]
    rope["rope_theta"] = 3.0
    (place / "config.json").write_text(json.dumps(config))
    expected = answer()
    saved_by_4(place, kind)
    assert torch.allclose(answer(), expected, atol=1e-5) and not torch.allclose(usual, expected, atol=1e-3)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_what_a_later_version_saved_is_said_by_its_name(part: str, tmp_path: Path):
    """As transformers 4 meets a folder of 5: weights of other names, and a tokenizer that it cannot read."""
    folder = build(tmp_path)
    file = folder / "text_encoder" / "model.safetensors"
    edit(folder / "text_encoder" / "config.json", transformers_version="99.1.0")
    if part == "text_encoder":
        save_file({f"later.{name}": tensor for name, tensor in load_file(file).items()}, file)
    else:
        (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(models.ModelError) as caught:
        models.load(folder).encode_prompt(PROMPTS)
    assert str(caught.value).startswith(f"{folder / part} ")
    assert str(caught.value).endswith(
        f"; transformers 99.1.0 saved it, and {transformers.__version__} is installed; run `pip install --upgrade "
        "transformers`"
    )
