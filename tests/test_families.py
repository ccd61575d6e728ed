"""A new model family is one file: here a model of pixels that predicts x0 and takes two tensors for a prompt."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from pullback import karras_sigmas, models, sample
from pullback.denoiser import Sigma, VPSchedule, vp_x0
from pullback.diffreps.pixels import Pixels
from pullback.errors import UserError
from pullback.models import families
from pullback.models.lora import LoRA
from pullback.models.protocol import cat, expand, join
from torch import Tensor

SIZE = 8
PARTS = {"unet": "UNet2DModel", "scheduler": families.ANY}


class PixelModel:
    """x̂0 of images, told a class (the length of the prompt) and a brightness that is added to it."""

    vae_scale_factor, latent_channels, sample_size, image_size = 1, 3, SIZE, SIZE

    def __init__(self, unet: Any, schedule: VPSchedule, fingerprint: Any) -> None:
        self.unet, self.schedule, self.fingerprint = unet, schedule, fingerprint
        self.device, self.dtype = unet.device, unet.dtype
        self.sigma_min, self.sigma_max = schedule.sigma_min, schedule.sigma_max

    def encode_prompt(self, prompts: list[str]) -> models.Conditioning:
        kind = torch.tensor([len(prompt) % 4 for prompt in prompts])
        return models.Conditioning({"kind": kind, "brightness": kind[:, None].to(self.dtype) / 4})

    def check_image_size(self, height: int, width: int) -> None:
        if height % 4:
            raise models.ModelError("must be a multiple of 4", "height")

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        return latents.detach()

    @torch.no_grad()
    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: models.Conditioning) -> Tensor:
        kind, brightness = text.tensors["kind"], text.tensors["brightness"]

        def net(z: Tensor, t: Any) -> Tensor:
            time = torch.as_tensor(t, dtype=torch.float32)  # diffusers cuts the fraction off a plain number
            return self.unet(z, time, class_labels=kind).sample + brightness[:, :, None, None]

        return vp_x0(net, self.schedule, noisy, sigma, "sample")

    def save_memory(self, **options: Any) -> None:
        pass


def load(folder: models.ModelFolder, device: torch.device, dtype: torch.dtype) -> models.LatentModel:
    unet = folder.network("unet", "diffusers.UNet2DModel", dtype).to(device)
    scheduler: Any = DDIMScheduler.from_config(folder.json("scheduler/scheduler_config.json"))
    fingerprint = functools.partial(folder.fingerprint, PARTS)
    return PixelModel(unet, VPSchedule(scheduler.alphas_cumprod), fingerprint)


def load_text(folder: models.ModelFolder, device: torch.device) -> Any:
    raise models.ModelError(f"{folder.path} has no text encoder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (usual,) = (family for family in families.families() if family.name.startswith("Stable Diffusion 1"))
    monkeypatch.setattr(families, "_families", {usual.name: usual})  # whatever other families the package has
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, attention_head_dim=4, num_class_embeds=4, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    net.save_pretrained(tmp_path / "unet", safe_serialization=True)
    DDIMScheduler(prediction_type="sample").save_pretrained(tmp_path / "scheduler")
    index = {"_class_name": "PixelPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIM"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_family_is_known_once_it_is_registered(folder: Path):
    with pytest.raises(UserError, match=r"is a PixelPipeline, whose unet is not supported; use a Stable Diffusion"):
        models.load(folder)
    models.register(models.Family("toy pixel", PARTS, load, load_text))
    assert isinstance(models.load(folder), PixelModel)
    (folder / "model_index.json").write_text(json.dumps({"unet": ["other", "Net"], "_class_name": "Other"}))
    with pytest.raises(UserError, match=r"use a Stable Diffusion 1\.x or 2\.x or toy pixel model$"):
        models.load(folder)


def test_it_is_loaded_guided_and_sampled_for_two_steps(folder: Path):
    models.register(models.Family("toy pixel", PARTS, load, load_text))
    model = models.load(folder, dtype=torch.float64)
    assert model.fingerprint() == models.fingerprint(folder)
    with pytest.raises(UserError, match="a PixelModel has no attention that a LoRA could adapt"):
        LoRA(model)
    noisy = 2 * torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    table, nothing = model.encode_prompt(["a", "ab", "abc"]), model.encode_prompt([""])
    x0, without = (model.predict_x0(noisy, 2.0, expand(text, 3)) for text in (table, nothing))
    for chunk in (None, 2):
        guided = models.GuidedDenoiser(model, lambda views: (table[views], nothing), 2.5, chunk=chunk)
        found = guided(noisy, 2.0, torch.arange(3))
        assert torch.allclose(found, without + 2.5 * (x0 - without), atol=1e-12)
    negatives = join(lambda t: t[:, None].expand(3, 2, *t.shape[1:]), table)
    text = table, expand(nothing, 3), negatives, torch.full((3, 2), -1.0)
    steered = models.PerpNegDenoiser(model, lambda views: text, 2.5)
    assert torch.allclose(steered(noisy, 2.0, None), found, atol=1e-12)  # the prompt itself has no perpendicular part

    pictures = []
    for prompt in ("abc", "abc", "a"):
        text, generator = models.fixed_text(model, prompt), torch.Generator().manual_seed(0)
        denoise = models.AnySize(models.RoundTrip(models.GuidedDenoiser(model, text, 2.0), 1))
        images = Pixels(2, 3, SIZE, SIZE).double()
        result = sample(images, torch.arange(2), denoise, karras_sigmas(2, 0.5, 5.0), generator=generator)
        assert (len(result.history), result.nfe) == (2, 2 * 2 * 2)
        pictures.append(result.renders)
    assert torch.equal(pictures[0], pictures[1]) and not torch.allclose(pictures[0], pictures[2], atol=0.1)


def test_prompts_of_any_kind_can_be_cut_and_joined():
    plain = torch.arange(6.0).view(3, 2)
    several = models.Conditioning({"a": plain, "mask": plain[:, 0] > 0})
    for prompts in (plain, several):
        again = cat(*prompts.split(2))
        assert len(again) == 3 and [len(part) for part in prompts.split(2)] == [2, 1]
        one, other = prompts[[0, 1]].chunk(2)
        assert len(one) == len(other) == 1 and len(expand(one, 4)) == 4
        with pytest.raises(ValueError, match="3 text embeddings for 2 views"):
            expand(prompts, 2)
    assert torch.equal(cat(*several.split(2)).tensors["mask"], plain[:, 0] > 0)  # type: ignore[union-attr]
    assert several.to(torch.float64).tensors["a"].dtype == torch.float64
    with pytest.raises(ValueError, match="different model families"):
        cat(plain, several)


def test_a_family_is_a_file_of_a_hundred_lines_at_most():
    files = [file for file in Path(families.__file__).parent.glob("*.py") if not file.name.startswith("_")]
    assert len(files) >= 14
    assert not [file.name for file in files if len(file.read_text(encoding="utf-8").splitlines()) > 100]
