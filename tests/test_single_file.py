"""A model in one file: what is loaded is the folder that the file was made of, and what cannot be is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import family_contract as contract
import first_layout as first
import huggingface_hub
import pytest
import tiny_parts as tiny
import torch
from pullback import models
from pullback.errors import UserError
from safetensors.torch import load_file, save_file
from test_family_flux import build as build_flux
from test_family_stable_diffusion_xl import build as build_xl
from tiny_pipeline import build
from torch.testing import assert_close

WEIGHTS = shutil.ignore_patterns("*.safetensors")


def stripped(folder: Path, out: Path) -> Path:
    """The folder without its weights."""
    return Path(shutil.copytree(folder, out, ignore=WEIGHTS))


def whole(folder: Path, file: Path, *text: first.Weights) -> Path:
    unet, vae = first.unet(first.read(folder, "unet")), first.vae(first.read(folder, "vae"), 2)
    return first.save(file, unet, vae, *(text or [first.clip(first.read(folder, "text_encoder"))]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD 1.5's layout: a folder, its configs alone, and its weights in one file."""
    place = tmp_path_factory.mktemp("single")
    whole(build(place / "folder"), place / "model.safetensors")
    stripped(place / "folder", place / "configs")
    return place


def same(a: models.LatentModel, b: models.LatentModel) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, a.latent_channels, a.sample_size, a.sample_size, generator=generator)
    images = torch.rand(1, 3, a.image_size, a.image_size, generator=generator)
    texts = [model.encode_prompt(["a red cube"]) for model in (a, b)]
    x0 = a.predict_x0(y, 2.0, texts[0])
    assert_close(x0, b.predict_x0(y, 2.0, texts[1]))  # up to rounding: kernels depend on where in memory a number lies
    assert not torch.allclose(x0, a.predict_x0(y, 2.0, a.encode_prompt(["blue"])))
    assert_close(a.decode(y), b.decode(y))
    assert_close(a.encode(images), b.encode(images))


def refused(*name: object, **options: object) -> str:
    with pytest.raises(models.ModelError) as caught:
        models.load(*name, **options)
    return str(caught.value)


def test_the_layout_of_stable_diffusion_1_5(place: Path):
    file, configs = place / "model.safetensors", place / "configs"
    model = models.load(file, single_file_config=configs)
    same(models.load(place / "folder"), model)
    assert models.embeds_prompts(file) and models.resolve(file) == file
    half = models.load(file, single_file_config=configs, dtype=torch.bfloat16)
    assert {p.dtype for net in (half.network, half.vae) for p in net.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad or p.is_meta for p in model.network.parameters()) and not model.network.training


def test_the_layout_of_stable_diffusion_2_1(place: Path, tmp_path: Path):
    """OpenCLIP, whose matrices for query, key and value are one; v-prediction is the config's to say."""
    folder = build(tmp_path / "folder", "v_prediction")
    file = whole(folder, tmp_path / "m.safetensors", first.open_clip(first.read(folder, "text_encoder")))
    model = models.load(file, single_file_config=stripped(folder, tmp_path / "configs"))
    same(models.load(folder), model)
    assert model.prediction_type == "v_prediction"


def test_the_layout_of_sdxl(tmp_path: Path):
    folder = build_xl(tmp_path / "folder", second=24)
    first_text = first.clip(first.read(folder, "text_encoder"), "conditioner.embedders.0.transformer.")
    second = first.open_clip(first.read(folder, "text_encoder_2"), "conditioner.embedders.1.model.")
    file = whole(folder, tmp_path / "m.safetensors", first_text, second)
    same(models.load(folder), models.load(file, single_file_config=stripped(folder, tmp_path / "configs")))


def test_a_file_of_flux_has_the_transformer_alone(tmp_path: Path):
    """Its names here are diffusers': the conversion of the first layout's has FLUX.1's own width written into it."""
    folder = build_flux(tmp_path / "folder")
    file = first.save(tmp_path / "m.safetensors", first.read(folder, "transformer"))
    configs = Path(shutil.copytree(folder, tmp_path / "configs"))
    for weights in (configs / "transformer").glob("*.safetensors"):
        weights.unlink()
    same(models.load(folder), models.load(file, single_file_config=configs))
    said = refused(file, single_file_config=stripped(folder, tmp_path / "bare"))
    assert said == (
        f"single_file_config is {tmp_path / 'bare'}, which has no weights for vae, and {file} has none either; give a "
        "folder that has them"
    )


def test_the_configs_are_diffusers_choice_where_the_hub_cache_has_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str], **options: object) -> str:
        asked.append((name, allow_patterns))
        if len(asked) > 1:
            raise FileNotFoundError("no network")
        return str(place / "configs")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    file = place / "model.safetensors"
    assert models.load(file).sample_size == 8
    ((name, patterns),) = asked
    assert name == "stable-diffusion-v1-5/stable-diffusion-v1-5" and not any("safetensors" in p for p in patterns)
    assert refused(file) == (
        f"single_file_config is not set, {file} has weights alone, and {name}, whose configs and tokenizers suit it, "
        "is not in the local hub cache and could not be downloaded; give a folder in diffusers' format that has them"
    )
    assert refused(file, single_file_config="someone/model") == (
        "single_file_config is 'someone/model', which is no folder here, and as a model id it is not in the local hub "
        "cache and could not be downloaded; give a folder in diffusers' format that has them"
    )


def test_files_that_are_no_model(place: Path, tmp_path: Path):
    configs = {"single_file_config": place / "configs"}
    remedy = "; copy or download the model again, or give the configs of a model like it as single_file_config"
    pickled = tmp_path / "model.ckpt"
    torch.save({}, pickled)
    assert refused(pickled).startswith(
        f"{pickled} is a single file, but no .safetensors or .gguf one; pickled weights (.ckpt, .pt, .bin) can run"
    )
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((place / "model.safetensors").read_bytes()[:5000])
    assert refused(cut).startswith(f"{cut} cannot be read (") and refused(cut, **configs).endswith(remedy)
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(4, 4)}, lora)
    assert refused(lora).startswith(f"{lora} is a LoRA, which changes a model; name the model here")
    lacking = tmp_path / "lacking.safetensors"
    weights = load_file(place / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "model.diffusion_model.out.2.bias"}, lacking)
    assert refused(lacking, **configs) == f"the unet of {lacking} lacks weights{remedy}"
    wide = build(tmp_path / "wide", sample_size=8)
    tiny.unet(block_out_channels=(16, 16), attention_head_dim=4).save_pretrained(wide / "unet")
    said = refused(place / "model.safetensors", single_file_config=wide)
    assert said.startswith(f"the unet of {place / 'model.safetensors'} cannot be loaded (") and said.endswith(remedy)


def test_configs_that_are_none(place: Path, tmp_path: Path):
    file = place / "model.safetensors"
    assert refused(file, single_file_config=tmp_path / "nowhere").startswith("single_file_config is '")
    said = refused(file, single_file_config=tmp_path)
    assert said.startswith(f"single_file_config is '{tmp_path}', ") and "(it has no model_index.json)" in said
    assert refused(place / "folder", single_file_config=place / "configs").startswith(
        "single_file_config is for a model in one file, and"
    )
    with (
        pytest.raises(UserError, match=r"^`system\.guidance\.single_file_config` is '"),
        models.config_key("system.guidance.pretrained_model_name_or_path"),
    ):
        models.load(file, single_file_config="no where")


def test_two_visits(place: Path, tmp_path: Path):
    """The bundled prompt processor hands the words over, since it finds no text encoder at the file's path."""
    file = place / "model.safetensors"
    more = f"system.guidance.single_file_config={place / 'configs'}"
    contract.two_visits(file, tmp_path, more, f"system.prompt_processor.pretrained_model_name_or_path={file}")
