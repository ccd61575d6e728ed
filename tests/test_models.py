"""Pretrained models as denoisers: diffusers' own arithmetic, and clear about what cannot be loaded."""

from __future__ import annotations

import fnmatch
import json
import shutil
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from pullback import models
from pullback.errors import UserError
from pullback.models.libraries import dtype_option
from pullback.resources import TINY_MODEL
from safetensors.torch import load_file, save_file
from tiny_pipeline import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> models.DiffusionModel:
    loaded = models.load(folder, dtype=torch.float64)
    assert isinstance(loaded, models.DiffusionModel)
    return loaded


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _refused(name: object, **options) -> str:
    with pytest.raises(UserError) as caught:
        models.load(name, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def _configured(name: object, **options) -> models.LatentModel:
    key, cpu = "pretrained_model_name_or_path", torch.device("cpu")
    block = {key: name, "half_precision_weights": True, **options}
    return models.load_configured(block, key, f"system.guidance.{key}", cpu)


# what it computes


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_x0_is_diffusers_pred_original_sample_at_its_own_timesteps(tmp_path: Path, prediction_type: str):
    path = build(tmp_path, prediction_type)
    model = models.load(path, dtype=torch.float64)
    pipe = StableDiffusionPipeline.from_pretrained(path, safety_checker=None, torch_dtype=torch.float64)  # type: ignore
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(1000)
    text = _noise(2, 16, 16)
    for t in (0, 1, 250, 731, 999):
        alpha = scheduler.alphas_cumprod[t].double()
        noisy = (1 + ((1 - alpha) / alpha).sqrt()) * _noise(2, 4, 8, 8, seed=t)
        state = alpha.sqrt() * noisy
        with torch.no_grad():
            net = pipe.unet(state, t, encoder_hidden_states=text).sample
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        expected = scheduler.step(net, t, state).pred_original_sample  # type: ignore[union-attr]
        found = model.predict_x0(noisy, float(((1 - alpha) / alpha).sqrt()), text)
        # cancelling the noise costs digits in proportion to the noisy image's size
        assert (found - expected).abs().max() < 1e-10 * noisy.abs().max()


def test_embeddings_and_latents_are_the_pipelines_own(folder: Path, model: models.DiffusionModel):
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float64)  # type: ignore
    prompts = (["a red cube"], "cpu", 1, True, ["a ball"])
    if hasattr(pipe, "encode_prompt"):
        theirs = torch.cat(pipe.encode_prompt(*prompts)[::-1])
    else:  # diffusers 0.19
        theirs = pipe._encode_prompt(*prompts)
    assert torch.equal(model.encode_prompt(["a ball", "a red cube"]), theirs)
    images = _noise(2, 3, 16, 16).clamp(-1, 1)
    with torch.no_grad():
        latents = pipe.vae.encode(images).latent_dist.mode() * 0.5
        assert torch.allclose(model.encode(images), latents, atol=1e-12)
        decoded = pipe.vae.decode(latents / 0.5).sample
    assert torch.allclose(model.decode(latents), decoded, atol=1e-12)
    assert torch.allclose(model.decode(latents, chunk=1), decoded, atol=1e-12)


def test_encode_is_the_only_way_for_gradients(model: models.DiffusionModel):
    images = _noise(1, 3, 16, 16).clamp(-1, 1).requires_grad_()
    latents = model.encode(images)
    (gradient,) = torch.autograd.grad(latents.square().sum(), images)
    assert gradient.abs().max() > 0
    latents = model.encode(images)
    assert not model.decode(latents).requires_grad
    assert not model.predict_x0(latents, 1.0, model.encode_prompt(["a cube"])).requires_grad
    networks = model.unet, model.vae, model.text.network
    assert not any(p.requires_grad for network in networks for p in network.parameters())
    assert not any(network.training for network in networks)


def test_time_is_exact_at_the_models_levels_and_monotone_between(model: models.DiffusionModel):
    sigmas = model.schedule.sigmas
    for t in (0, 1, 500, 998, 999):
        assert model.schedule.t_of_sigma(float(sigmas[t])) == pytest.approx(t, abs=1e-9)
    times = [model.schedule.t_of_sigma(s) for s in torch.logspace(-1.5, 1.1, 200).tolist()]
    assert all(a < b for a, b in pairwise(times))
    asked: list[torch.Tensor] = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    text, noisy = model.encode_prompt(["a cube"]), _noise(1, 4, 8, 8)
    for sigma in (sigmas[500], (sigmas[500] * sigmas[501]).sqrt(), sigmas[999]):
        model.predict_x0(noisy, float(sigma), text)
    hook.remove()
    assert torch.cat(asked).tolist() == [500, 500.5, 999]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_sigma_out_of_range_is_refused(model: models.DiffusionModel, factor: float):
    sigma = factor * (model.sigma_max if factor > 1 else model.sigma_min)
    with pytest.raises(UserError, match="outside the model's range"):
        model.predict_x0(_noise(1, 4, 8, 8), sigma, model.encode_prompt(["a cube"]))


def test_sizes_come_from_the_model(model: models.DiffusionModel):
    assert (model.sample_size, model.vae_scale_factor, model.image_size) == (8, 2, 16)
    assert model.latent_channels == 4
    model.check_image_size(16, 18)
    with pytest.raises(UserError, match=r"^height is 17, .* set it to 16 or 18 "):
        model.check_image_size(17, 16)
    with pytest.raises(UserError, match=r"^width is 1, .* set it to 2 "):
        model.encode(torch.zeros(1, 3, 16, 1))
    wide = model.predict_x0(_noise(1, 4, 9, 7), 1.0, model.encode_prompt(["a cube"]))
    assert wide.shape == (1, 4, 9, 7)


def test_sizes_may_be_a_list_or_be_said_by_the_autoencoder_alone(copy: Path):
    for size in ([8, 8], None):
        _edit(copy / "unet" / "config.json", sample_size=size)
        assert models.load(copy).image_size == 16
    _edit(copy / "unet" / "config.json", sample_size=[8, 16])
    assert "sample_size is [8, 16], which is no square" in _refused(copy)


def test_half_precision_networks_keep_wide_arithmetic(folder: Path, model: models.DiffusionModel, device: torch.device):
    half = models.load(folder, device=device, dtype=torch.bfloat16)
    text, noisy = model.encode_prompt(["a cube"]), 14 * _noise(1, 4, 8, 8)
    assert half.encode_prompt(["a cube"]).dtype == torch.bfloat16
    found = half.predict_x0(noisy.float().to(device), 14.0, text)
    assert found.dtype == torch.float32 and found.device.type == device.type
    # the network errs by bfloat16's 2^-8 or so; had y − σ net been rounded too, x̂0 would err by 14 times that
    net_error = (found.cpu() - model.predict_x0(noisy, 14.0, text)).abs().max() / 14
    assert net_error < 0.05


def test_zero_terminal_snr_keeps_the_finite_levels(tmp_path: Path):
    path = build(tmp_path, "v_prediction", scheduler={"rescale_betas_zero_snr": True})
    model = models.load(path)
    assert len(model.schedule.sigmas) == 999
    assert model.sigma_max < float("inf")


# guidance


def test_guidance_is_the_manual_mix_whatever_the_chunk(folder: Path, device: torch.device):
    model = models.load(folder, device=device, dtype=torch.float64)
    cond = model.encode_prompt(["a red cube", "a blue cube", "a ball"])
    uncond = model.encode_prompt(["", "of", "a"])
    noisy, sigma = 3 * _noise(3, 4, 8, 8).to(device), 2.5
    with_text, without = model.predict_x0(noisy, sigma, cond), model.predict_x0(noisy, sigma, uncond)
    for chunk in (None, 1, 2):
        denoise = models.GuidedDenoiser(model, lambda views: (cond, uncond), 7.5, chunk=chunk)
        assert denoise.nfe_per_view == 2
        expected = without + 7.5 * (with_text - without)
        assert torch.allclose(denoise(noisy, sigma, None), expected, atol=1e-11)


def test_scale_one_asks_once(model: models.DiffusionModel):
    text = models.fixed_text(model, "a red cube", "a ball")
    denoise = models.GuidedDenoiser(model, text, 1.0)
    calls = []
    hook = model.unet.register_forward_hook(lambda *_: calls.append(1))
    noisy = _noise(2, 4, 8, 8)
    found = denoise(noisy, 1.0, None)
    hook.remove()
    assert (denoise.nfe_per_view, len(calls)) == (1, 1)
    assert torch.equal(found, model.predict_x0(noisy, 1.0, text(None)[0].expand(2, -1, -1)))


def test_text_follows_the_views(model: models.DiffusionModel):
    table = model.encode_prompt(["a cube, front view", "a cube, back view"])
    nothing = model.encode_prompt([""])
    denoise = models.GuidedDenoiser(model, lambda views: (table[views], nothing), 1.0)
    noisy = _noise(1, 4, 8, 8).repeat(2, 1, 1, 1)
    one, other = denoise(noisy, 1.0, torch.tensor([0, 1]))
    assert not torch.allclose(one, other)
    swapped = denoise(noisy, 1.0, torch.tensor([1, 0]))
    assert torch.allclose(swapped, torch.stack([other, one]), atol=1e-12)


@pytest.mark.parametrize("fit_space", ["image", "latent"])
def test_fit_space_decides_about_gradients(model: models.DiffusionModel, fit_space: str):
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, "a cube"), 3.0, fit_space)
    images = torch.zeros(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert denoise.encode(images).requires_grad == (fit_space == "latent")
    assert denoise.decode(denoise.encode(images)).shape == images.shape
    with pytest.raises(UserError, match=r"^fit_space is 'pixels'"):
        models.GuidedDenoiser(model, denoise.text, 3.0, "pixels")


def test_nan_is_passed_on(model: models.DiffusionModel):
    noisy = _noise(2, 4, 8, 8)
    noisy[1, 0, 0, 0] = float("nan")
    found = models.GuidedDenoiser(model, models.fixed_text(model, "a cube"), 3.0)(noisy, 1.0, None)
    assert not found[0].isnan().any()
    assert found[1].isnan().any()


def test_memory_options_do_not_change_the_answer(
    folder: Path, model: models.DiffusionModel, monkeypatch: pytest.MonkeyPatch
):
    thrifty = models.load(folder, dtype=torch.float64)
    every = ("attention_slicing", "channels_last_format", "memory_efficient_attention")
    thrifty.save_memory(**{f"enable_{name}": True for name in every})
    noisy, text = _noise(2, 4, 8, 8), _noise(2, 16, 16)
    found, expected = (m.predict_x0(noisy, 1.0, text) for m in (thrifty, model))
    assert torch.allclose(found, expected, atol=1e-11)
    monkeypatch.setitem(sys.modules, "tomesd", None)
    with pytest.raises(UserError, match=r"^token_merging needs .* `pip install tomesd`"):
        thrifty.save_memory(token_merging=True)
    with pytest.raises(UserError, match=r"^`system\.guidance\.token_merging` needs .* `pip install tomesd`"):
        _configured(folder, token_merging=True)


# what it reads


def test_fingerprint_follows_content_not_path(folder: Path, copy: Path):
    before = models.fingerprint(copy)
    assert before == models.fingerprint(folder) == models.load(copy).fingerprint()
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state["conv_in.bias"] += 1
    save_file(state, weights, metadata={"format": "pt"})
    assert models.fingerprint(copy) != before
    text = models.TEXT_COMPONENTS
    assert models.fingerprint(copy, text) == models.fingerprint(folder, text)


def test_fp16_files_are_used_when_there_are_no_others(tmp_path: Path, folder: Path):
    half = models.load(build(tmp_path, variant="fp16"))
    assert models.load(build(tmp_path / "other", variant="bf16")).sample_size == 8
    for one, other in zip(half.unet.parameters(), models.load(folder).unet.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "diffusion_pytorch_model.fp16.safetensors" in _refused(folder, variant="fp16")


def test_numbers_in_half_precision_become_one_dtype(copy: Path):
    """The libraries leave such a folder's text encoder in float16 and make all else float32."""
    for file in copy.rglob("*.safetensors"):
        save_file({name: x.half() for name, x in load_file(file).items()}, file, metadata={"format": "pt"})
    for dtype in (torch.float32, torch.bfloat16):
        model = models.load(copy, dtype=dtype)
        networks = model.unet, model.vae, model.text.network
        assert {p.dtype for network in networks for p in network.parameters()} == {dtype}
        assert model.encode_prompt(["a red cube"]).dtype == dtype


def equal(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether all numbers are, to the bit; answers are not, since they depend on where in memory a number lies."""
    own, theirs = network.state_dict(), other.state_dict()
    return own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


def test_weights_may_be_in_several_files(copy: Path, folder: Path):
    whole = models.load(folder)
    for part, network in (("unet", whole.unet), ("vae", whole.vae), ("text_encoder", whole.text.network)):
        for file in (copy / part).glob("*.safetensors"):
            file.unlink()
        network.save_pretrained(copy / part, max_shard_size="20KB")
        assert len([*(copy / part).glob("*-of-*.safetensors")]) > 1
    model = models.load(copy)
    assert equal(model.unet, whole.unet) and equal(model.vae, whole.vae)
    assert equal(model.text.network, whole.text.network)


def test_loading_says_nothing_and_needs_no_diffusers_to_import(folder: Path):
    code = (
        "import sys, pullback.models as m; assert not {'diffusers', 'transformers'} & set(sys.modules); "
        f"m.load({str(folder)!r}).encode_prompt(['a cube'])"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_config_keys_are_named_by_those_who_read_configs_only(copy: Path, tmp_path: Path):
    shutil.rmtree(copy / "vae")
    for name in ("nothere", tmp_path, copy):
        message = _refused(name)
        assert "system." not in message and repr(str(name)) in message and not message.endswith(".")
        with pytest.raises(UserError) as configured:
            _configured(name)
        assert str(configured.value) == f"`system.guidance.pretrained_model_name_or_path`: {message}"
    with pytest.raises(UserError, match=r"^`--model`: the path 'nothere' does not exist"), models.config_key("--model"):
        models.load("nothere")


def test_the_shipped_model_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert models.resolve("custom/threestudio-pullback/assets/tiny-sd") == TINY_MODEL


def test_the_dtype_is_handed_over_without_a_word(folder: Path):
    """Whichever version of diffusers is installed: its keyword of today, and no deprecated one."""
    from diffusers import UNet2DConditionModel

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        options = dtype_option(torch.bfloat16)
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **options)
    assert unet.dtype == torch.bfloat16 and not [w for w in seen if "dtype" in str(w.message)]


@pytest.mark.parametrize("name", [None, "", "  ", "???"])
def test_no_name(name: str | None):
    assert _refused(name).startswith("name_or_path is not set; give ")
    with pytest.raises(UserError, match=r"^`system\.guidance\.pretrained_model_name_or_path` is not set"):
        _configured(name)


def test_paths_that_lead_nowhere(tmp_path: Path):
    with pytest.warns(FutureWarning, match="config_key"):
        message = _refused(tmp_path / "none", config_path="system.prompt_processor.x")
    assert message.startswith("`system.prompt_processor.x`: ")
    assert "does not exist" in message
    assert "is no diffusers folder" in _refused(tmp_path)
    (tmp_path / "old.ckpt").touch()
    assert "single file" in _refused(tmp_path / "old.ckpt")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_component(copy: Path, part: str):
    shutil.rmtree(copy / part)
    assert f"no folder {part}" in _refused(copy)


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("damage", ["truncated", "lacking", "misshapen", "pickled", "config"])
def test_damaged_network(copy: Path, part: str, damage: str):
    weights = copy / part / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    first = sorted(state)[0]
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "pickled":
        weights.rename(weights.with_suffix(".bin"))
    elif damage == "config":
        (copy / part / "config.json").write_text("{not json")
    else:
        tensor = state.pop(first)
        state |= {first: tensor.new_zeros(3, 5, 7)} if damage == "misshapen" else {}
        save_file(state, weights, metadata={"format": "pt"})
    message = _refused(copy)
    assert str(copy / part) in message
    assert "pickled" in message if damage == "pickled" else "again" in message


FILES = ["text_encoder/model.safetensors", "tokenizer/tokenizer_config.json", "model_index.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_a_file_that_is_none(copy: Path, file: str, kind: str):
    path = copy / file
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.symlink_to(path)
    with pytest.raises(models.ModelError, match=rf"{path.name} is no file that can be read; copy or download"):
        models.load(copy)


WRONG_NUMBERS = {
    "norm_num_groups": [0.5, -1], "norm_eps": ["x", None, [], {}], "downsample_padding": [0.5, -1, None, []],
    "freq_shift": ["x", {}], "mid_block_scale_factor": ["x"],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_NUMBERS.items() for value in values])
def test_a_number_that_diffusers_reads_in_the_first_call_alone(copy: Path, key: str, value: Any):
    """Found by the campaign as TypeErrors of the first visit."""
    config = copy / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    with pytest.raises(models.ModelError, match=r"unet/config\.json does not fit its network \(.*; copy or download"):
        models.load(copy)


def test_damaged_text_encoder(copy: Path):
    (copy / "text_encoder" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="text_encoder cannot be loaded"):
        models.load(copy).encode_prompt(["a cube"])
    (copy / "tokenizer" / "vocab.json").unlink()
    assert "no vocabulary" in _refused(copy)


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_other_families(copy: Path):
    index = copy / "model_index.json"
    flow = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    _edit(index, scheduler=flow, _class_name="StableDiffusion3Pipeline")
    assert "flow-matching model (StableDiffusion3Pipeline), which is not supported" in _refused(copy)
    _edit(index, scheduler=["diffusers", "PNDMScheduler"], text_encoder_2=["transformers", "CLIPTextModel"])
    assert "text_encoder_2 is not supported" in _refused(copy)
    _edit(index, text_encoder_2=[None, None], text_encoder=["transformers", "T5EncoderModel"])
    assert "text_encoder is not supported" in _refused(copy)
    _edit(index, text_encoder=["transformers", "CLIPTextModel"])
    models.load(copy)
    index.write_text("[]")
    assert "is no JSON object" in _refused(copy)


def test_another_prediction_type_or_conditioning(copy: Path):
    _edit(copy / "scheduler" / "scheduler_config.json", prediction_type="flow")
    assert "prediction_type 'flow'" in _refused(copy)
    _edit(copy / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    _edit(copy / "text_encoder" / "config.json", hidden_size=32)
    assert "another conditioning" in _refused(copy)


def test_ids_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for offline in (True, False):
        message = _refused("nobody/nothing", local_files_only=offline)
        assert "not in the local hub cache" in message
        assert "hf download nobody/nothing" in message
    message = _refused("runwayml/stable-diffusion-v1-5")
    assert "'stable-diffusion-v1-5/stable-diffusion-v1-5'" in message


def test_an_id_in_the_hub_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    commit = "0" * 40
    shutil.copytree(folder, tmp_path / "models--someone--tiny" / "snapshots" / commit)
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text(commit)
    assert models.load("someone/tiny").sample_size == 8


def test_an_id_with_half_precision_weights_alone_is_downloaded_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import huggingface_hub

    source, asked = build(tmp_path / "source", variant="fp16"), []

    def snapshot_download(name: str, allow_patterns: list[str], local_files_only: bool = False, **options) -> str:
        if local_files_only:
            raise FileNotFoundError(name)
        asked.append(allow_patterns)
        for file in source.rglob("*"):
            path = file.relative_to(source)
            if file.is_file() and any(fnmatch.fnmatch(str(path), pattern) for pattern in allow_patterns):
                (tmp_path / "cache" / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "cache" / path)
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert models.load("someone/half").sample_size == 8
    assert len(asked) == 2
    shutil.rmtree(tmp_path / "cache")
    build(source)  # with plain weights beside them the others are left where they are
    assert models.load("someone/both").sample_size == 8 and len(asked) == 3
    assert not [*(tmp_path / "cache").rglob("*fp16*")]


def test_missing_packages(monkeypatch: pytest.MonkeyPatch, folder: Path):
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    assert "pip install diffusers transformers safetensors accelerate" in _refused(folder)
