"""LoRA files: the merged weights are W + scale · alpha/rank · up down, as in diffusers; a bad file is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import family_contract as contract
import peft
import pytest
import tiny_parts
import torch
from pullback import models
from safetensors.torch import save_file
from test_family_flux import build as build_flux
from test_family_stable_diffusion_xl import build as build_xl
from tiny_pipeline import build
from torch import Tensor

RANK, SCALE = 3, 0.7
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_out.0"
CLIP = tuple(f"encoder.layers.1.self_attn.{layer}" for layer in ("q_proj", "out_proj"))

Matrices = dict[str, tuple[Tensor, Tensor]]


def matrices(network: Any, *layers: str) -> Matrices:
    """Random down [r,i] and up [o,r] for these layers."""
    generator = torch.Generator().manual_seed(0)
    shapes = {layer: network.get_submodule(layer).weight.shape for layer in layers}
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {layer: (draw(RANK, i), draw(o, RANK)) for layer, (o, i) in shapes.items()}


def weights(network: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def named(parts: dict[str, Matrices]) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    for part, layers in parts.items():
        for layer, (down, up) in layers.items():
            yield part, layer, down, up


def diffusers_file(file: Path, parts: dict[str, Matrices]) -> Path:
    content = {}
    for part, layer, down, up in named(parts):
        name = f"{part}.{'text_model.' if part.startswith('text') else ''}{layer}"
        content |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file(content, file)
    return file


def kohya_file(file: Path, parts: dict[str, Matrices], alpha: float) -> Path:
    short = {"unet": "lora_unet", "text_encoder": "lora_te" if "text_encoder_2" not in parts else "lora_te1"}
    short |= {"text_encoder_2": "lora_te2"}
    content = {}
    for part, layer, down, up in named(parts):
        name = f"{short[part]}_{'text_model_' if part.startswith('text') else ''}{layer.replace('.', '_')}"
        content |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        content[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(content, file)
    return file


def check_merged(network: Any, before: dict[str, Tensor], layers: Matrices, factor: float) -> None:
    """W + factor · up down in these layers, and all others unchanged."""
    expected = {f"{layer}.weight": factor * up @ down for layer, (down, up) in layers.items()}
    after = network.state_dict()
    assert after.keys() == before.keys()  # no layers are left over
    for name, tensor in before.items():
        assert torch.allclose(after[name], tensor + expected.pop(name, 0.0), atol=1e-6), name
    assert not expected
    assert not network.training and not any(p.requires_grad for p in network.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def parts(folder: Path) -> dict[str, Matrices]:
    model = models.load(folder)
    return {"unet": matrices(model.network, QUERY, OUT), "text_encoder": matrices(model.text.network, *CLIP)}


@pytest.mark.parametrize(("kind", "alpha"), [("diffusers", RANK), ("kohya", 2.0)])
def test_a_file_for_stable_diffusion(kind: str, alpha: float, folder: Path, parts: dict[str, Matrices], tmp_path: Path):
    file = tmp_path / "a.safetensors"
    diffusers_file(file, parts) if kind == "diffusers" else kohya_file(file, parts, alpha)
    plain, model = models.load(folder), models.load(folder, lora=[{"path": str(file), "scale": SCALE}])
    check_merged(model.network, weights(plain.network), parts["unet"], SCALE * alpha / RANK)
    check_merged(model.text.network, weights(plain.text.network), parts["text_encoder"], SCALE * alpha / RANK)
    pipe = contract.pipeline(folder)
    pipe.load_lora_weights(str(file))
    pipe.fuse_lora(lora_scale=SCALE)
    y, text = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), model.encode_prompt(["a red cube"])
    theirs, _ = pipe.encode_prompt("a red cube", "cpu", 1, False)
    assert torch.allclose(text, theirs, atol=1e-6) and not torch.allclose(text, plain.encode_prompt(["a red cube"]))
    x0 = model.predict_x0(y, 2.0, text)
    with torch.no_grad():
        t = torch.full((1,), model.schedule.t_of_sigma(2.0))
        expected = y - 2.0 * pipe.unet(y / 5**0.5, t, encoder_hidden_states=theirs).sample
    assert torch.allclose(x0, expected, atol=1e-5)
    assert model.embeds_prompts and model.fingerprint() != plain.fingerprint()
    assert model.fingerprint() != models.load(folder, lora=[{"path": file}]).fingerprint()


def test_an_alpha_that_stands_in_the_description_alone(folder: Path, tmp_path: Path):
    """As diffusers' own scripts save a LoRA: no alpha among the tensors."""
    unet = models.load(folder).network
    before = weights(unet)
    unet.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=12, target_modules=["to_k"], init_lora_weights="gaussian"))
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    state = peft.get_peft_model_state_dict(unet)
    layers = {
        name.removesuffix(".lora_A.weight"): (down, state[name.replace("lora_A", "lora_B")])
        for name, down in state.items() if "lora_A" in name
    }  # fmt: skip
    description = unet.peft_config["default"].to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path, state, unet_lora_adapter_metadata=description)
    (file,) = tmp_path.glob("*.safetensors")
    model = models.load(folder, lora=[{"path": file}])
    check_merged(model.network, before, layers, 12 / RANK)


def test_two_files_add_up(folder: Path, parts: dict[str, Matrices], tmp_path: Path):
    unet = {"unet": parts["unet"]}
    first, second = diffusers_file(tmp_path / "a.safetensors", unet), kohya_file(tmp_path / "b.safetensors", unet, 6.0)
    model = models.load(folder, lora=[{"path": first, "scale": 0.5}, {"path": second, "scale": -0.1}])
    check_merged(model.network, weights(models.load(folder).network), parts["unet"], 0.5 - 0.1 * 6.0 / RANK)


def test_kohyas_file_for_sdxl_has_both_encoders(tmp_path: Path):
    folder = build_xl(tmp_path / "model")
    plain = models.load(folder)
    with plain.text.loaded() as pipe:
        before = {part: weights(getattr(pipe, part)) for part in ("text_encoder", "text_encoder_2")}
        parts = {"text_encoder": matrices(pipe.text_encoder, *CLIP)}
        second = matrices(pipe.text_encoder_2, *(f"text_model.{layer}" for layer in CLIP))
    parts["text_encoder_2"] = {name.removeprefix("text_model."): both for name, both in second.items()}
    parts["unet"] = matrices(plain.network, QUERY, OUT)
    model = models.load(folder, lora=[{"path": kohya_file(tmp_path / "a.safetensors", parts, 2.0), "scale": SCALE}])
    check_merged(model.network, weights(plain.network), parts["unet"], SCALE * 2 / RANK)
    for _ in range(2):  # encoders that are read again are changed once
        with model.text.loaded() as pipe:
            check_merged(pipe.text_encoder, before["text_encoder"], parts["text_encoder"], SCALE * 2 / RANK)
            check_merged(pipe.text_encoder_2, before["text_encoder_2"], second, SCALE * 2 / RANK)
        model.text.release()


def test_a_transformer_has_them_too(tmp_path: Path):
    folder = build_flux(tmp_path / "model")
    plain = models.load(folder)
    layers = matrices(plain.network, "transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_out")
    file = diffusers_file(tmp_path / "a.safetensors", {"transformer": layers})
    model = models.load(folder, lora=[{"path": file, "scale": SCALE}])
    check_merged(model.network, weights(plain.network), layers, SCALE)


def test_files_that_do_not_fit(folder: Path, parts: dict[str, Matrices], tmp_path: Path):
    def refused(value: Any) -> str:
        return tiny_parts.refusal(folder, lora=value)

    for value in (["a.safetensors"], [{"file": "a"}], [{"path": "a", "weight": 1}], [{"path": "a", "scale": "much"}]):
        assert refused(value).startswith("must be a list with {path: FILE, scale: NUMBER}")
    file = tmp_path / "a.safetensors"
    assert refused([{"path": str(file)}]) == f"has {file}, which is no file; give the .safetensors file of a LoRA"
    other = tmp_path / "a.pt"
    torch.save({}, other)
    assert "only .safetensors files are read" in refused([{"path": other}])
    (tmp_path / "cut.safetensors").write_bytes(b"1234567")
    assert refused([{"path": tmp_path / "cut.safetensors"}]).startswith("has a damaged file: ")
    save_file({"unet.conv_in.weight": torch.zeros(1)}, file)
    assert refused([{"path": file}]).startswith(f"has {file}, which is no LoRA; give one")
    save_file({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, file)
    assert refused([{"path": file}]).startswith(f"has {file}, which is no LoRA")
    save_file({"unet.x.lora_A.weight": torch.zeros(2, 2), "unet.x.dora_scale": torch.zeros(2)}, file)
    assert "a DoRA" in refused([{"path": file}])
    diffusers_file(file, {"transformer": parts["unet"]})
    assert "which changes transformer, and the model has tokenizer" in refused([{"path": file}])
    diffusers_file(file, {"unet": {f"{QUERY}x": parts["unet"][QUERY]}})
    assert "which does not fit the model's unet (" in refused([{"path": file}])
    diffusers_file(file, {"unet": {**parts["unet"], "mid_block.nothing": (torch.zeros(RANK, 8), torch.zeros(8, RANK))}})
    assert "(2 of its 3 layers are there)" in refused([{"path": file}])
    down, up = parts["unet"][QUERY]
    diffusers_file(file, {"unet": {QUERY: (torch.cat([down, down], 1), up)}})
    assert "which does not fit the model's unet (" in refused([{"path": file}])
