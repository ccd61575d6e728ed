"""Quantised weights: GGUF files give what their pipeline gives, and what the numbers in them mean."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import diffusers
import family_contract as contract
import first_layout as first
import gguf_file
import pytest
import tiny_parts as tiny
import torch
from gguf_file import Kind
from pullback import models
from pullback.errors import UserError
from pullback.evaluate.plan.networks import describe
from pullback.models.memory import Thrift, fitting, thrift
from safetensors.torch import save_file
from test_family_flux import build as build_flux
from test_family_stable_diffusion_3 import build, run
from test_schedulers import edit
from tiny_pipeline import build as build_unet

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sd3") / "folder", width=32, text=64)


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    """The transformer in the layout in which Stable Diffusion 3's is shared."""
    file = folder.parent / "model.gguf"
    gguf_file.write(file, first.stable_diffusion_3(first.read(folder, "transformer")))
    return file


def answer(model: Any, prompt: str = "a red cube") -> torch.Tensor:
    y = torch.randn(1, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.predict_x0(3 * y, 2.0, model.encode_prompt([prompt]))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def refused(name: Path, **options: Any) -> str:
    with pytest.raises(models.ModelError) as caught:
        models.load(name, **options)
    return str(caught.value)


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Hides a package."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))


def with_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Claims that a package is there."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json" if name == package else name))


def with_weights(folder: Path, out: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A copy of the folder with other weights of its transformer."""
    shutil.copytree(folder, out)
    save_file(weights, out / "transformer" / "diffusion_pytorch_model.safetensors")
    return out


def test_it_ends_where_the_pipeline_does(folder: Path, file: Path):
    pipe, options = contract.pipeline(folder), {"config": str(folder), "subfolder": "transformer"}
    quantised = diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32)
    pipe.transformer = diffusers.SD3Transformer2DModel.from_single_file(
        str(file), quantization_config=quantised, dtype=torch.float32, **options
    )
    model = models.load(file, single_file_config=folder)
    contract.ends_alike(pipe, model, run)
    assert torch.uint8 in {p.dtype for p in model.network.parameters()} and not model.network.training
    assert model.dtype == torch.float32 and not any(p.requires_grad for p in model.network.parameters())


@pytest.mark.parametrize(
    ("kinds", "rounding", "error"),
    [
        ({"kind": Kind.Q8_0}, 1e-5, 0.004),
        ({"kind": Kind.Q4_0}, 1e-5, 0.06),
        ({"kind": Kind.Q8_0, "other": Kind.BF16}, 1e-5, 0.006),
        ({"kind": Kind.BF16, "other": Kind.BF16}, 1e-5, 0.006),
        ({"drawn": Kind.Q4_K}, 5e-3, None),
        ({"drawn": Kind.Q6_K}, 5e-3, None),
    ],
)
def test_it_answers_as_a_folder_with_the_weights_that_the_file_means(
    folder: Path, tmp_path: Path, kinds: dict[str, Any], rounding: float, error: float | None
):
    """The package gguf says what the numbers are; diffusers reckons in float16, for K kinds in several steps.

    It leaves a convolution in bfloat16 as it is, and could not call it.
    """
    file = tmp_path / "model.gguf"
    held = gguf_file.write(file, first.read(folder, "transformer"), **kinds)
    if kinds.get("kind") in (Kind.Q8_0, Kind.Q4_0):
        held = {name: tensor.half().float() if tensor.ndim == 2 else tensor for name, tensor in held.items()}
    expected = answer(models.load(with_weights(folder, tmp_path / "plain", held)))
    found = answer(models.load(file, single_file_config=folder))
    assert distance(found, expected) < rounding
    plain = answer(models.load(folder))
    assert distance(found, plain) > 1e-5 and (error is None or error / 10 < distance(found, plain) < error)
    half = models.load(file, single_file_config=folder, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and distance(answer(half), found) < 0.05


def test_memory(folder: Path, file: Path):
    brought = models.load(file, single_file_config=folder, enable_group_offload=True)
    assert torch.equal(answer(brought), answer(models.load(file, single_file_config=folder)))
    assert refused(file, single_file_config=folder, enable_layerwise_casting=True) == (
        "enable_layerwise_casting is set, but the model's weights are quantised already; leave it out"
    )
    whole, offload = Thrift(), Thrift(offload=True)
    assert [fitting(size, 6.5 * GIB, 0, quantised=True) for size in (8, 12, 24)] == [offload, whole, whole]
    single = models.loading._single(file, folder, True, None)
    assert single.size("transformer") == file.stat().st_size < 2 * sum(p.numel() for p in brought.network.parameters())
    assert thrift(single, ("transformer", "text_encoder"), 8, None, None) == whole
    planned = describe(str(file), None, "x", configs_of_file=str(folder))
    assert planned.quantised_size == file.stat().st_size
    with pytest.raises(UserError, match=r"^`a\.single_file_config` is 'nowhere', which is no folder here"):
        describe(str(file), None, "a.name", configs_of_file="nowhere")


def test_the_layout_of_a_unet(tmp_path: Path):
    folder, file = build_unet(tmp_path / "folder"), tmp_path / "model.gguf"
    gguf_file.write(file, first.unet(first.read(folder, "unet")))
    model = models.load(file, single_file_config=folder)
    assert 0 < distance(answer(model), answer(models.load(folder))) < 0.01


@pytest.mark.slow
def test_the_layout_of_flux_at_its_own_width(tmp_path: Path):
    """Half a billion weights: the width is written into diffusers' conversion."""
    folder = build_flux(tmp_path / "folder", heads=24, axes=(16, 56, 56))
    weights = first.flux(first.read(folder, "transformer"))
    plain = answer(models.load(folder))
    file = first.save(tmp_path / "model.safetensors", weights)
    assert torch.equal(answer(models.load(file, single_file_config=folder)), plain)
    for kind, error in ((Kind.Q8_0, 0.01), (Kind.Q4_0, 0.15)):
        file = tmp_path / f"{kind.name}.gguf"
        gguf_file.write(file, weights, kind)
        found = distance(answer(models.load(file, single_file_config=folder)), plain)
        assert error / 10 < found < error, found
        print(f"{kind.name}: {100 * found:.1f} %")


def test_a_lora_is_merged_into_plain_weights_alone(folder: Path, file: Path, tmp_path: Path):
    lora = tmp_path / "lora.safetensors"
    name = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    save_file({name.format("A"): torch.ones(4, 32), name.format("B"): torch.ones(32, 4)}, lora)
    models.load(folder, lora=[{"path": lora}])
    assert refused(file, single_file_config=folder, lora=[{"path": lora}]) == (
        f"lora has {lora}, which cannot be merged into the quantised weights of the model's transformer; leave it out, "
        "or use the model's plain weights"
    )


def test_files_that_cannot_be_read(folder: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-5000])
    assert refused(cut, single_file_config=folder).startswith(f"the transformer of {cut} cannot be loaded (")
    cut.write_bytes(b"GGUF")
    assert refused(cut).startswith(f"{cut} cannot be read (")
    without(monkeypatch, "gguf")
    assert refused(file, single_file_config=folder) == (
        f"{file} has quantised weights, which need the package gguf; install it with `pip install gguf`"
    )


def test_diffusers_reads_no_single_file_of_some_families(folder: Path, file: Path, tmp_path: Path):
    other = Path(shutil.copytree(folder, tmp_path / "pixart"))
    single = models.loading._single(file, other, True, None)
    edit(other / "transformer" / "config.json", _class_name="PixArtTransformer2DModel")
    with pytest.raises(models.ModelError) as caught:
        single.network("transformer", "diffusers.PixArtTransformer2DModel", torch.float32)
    assert str(caught.value) == (
        f"{file} would be the transformer of a PixArtTransformer2DModel, which diffusers reads from folders alone; use "
        "the model's folder"
    )


def test_a_folder_of_bitsandbytes_needs_it_and_a_gpu(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    quantised = Path(shutil.copytree(folder, tmp_path / "folder"))
    place = quantised / "transformer"
    edit(place / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    monkeypatch.setattr(models.quantised, "has_gpu", lambda: False)
    with_package(monkeypatch, "bitsandbytes")
    assert refused(quantised) == (
        f"{place} has weights quantised with bitsandbytes, which diffusers reads on a machine with a GPU alone, and "
        "PyTorch finds none here; use the plain ones, or a .gguf file"
    )
    said = tiny.refusal(folder, enable_4bit_weights=True)
    assert said == "needs a GPU, and PyTorch finds none here; set it to false"
    without(monkeypatch, "bitsandbytes")
    assert refused(quantised) == (
        f"{place} has quantised weights, which need the package bitsandbytes; install it with `pip install "
        "bitsandbytes`"
    )
    four_bits = {"enable_4bit_weights": True}
    assert tiny.refusal(folder, **four_bits) == (
        "needs the package bitsandbytes; install it with `pip install bitsandbytes` or set it to false"
    )
    assert tiny.refusal(quantised, **four_bits).startswith("is set, but the model's weights are quantised already")
    assert refused(folder, enable_layerwise_casting=True, **four_bits) == (
        "enable_4bit_weights is set beside enable_layerwise_casting, and weights can be kept in one way; leave one out"
    )
    edit(place / "config.json", quantization_config={"quant_method": "torchao"})
    assert refused(quantised) == (
        f"{place} has weights quantised with torchao, which are not read; use the plain ones, those of bitsandbytes, "
        "or a .gguf file"
    )
