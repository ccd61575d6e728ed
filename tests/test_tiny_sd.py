"""The shipped models: their format and size, and that the one of single views knows its world."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback import models
from pullback.evaluate import prompts
from pullback.evaluate.studio import model, naming
from pullback.evaluate.studio.held_out import OBJECTS
from pullback.evaluate.studio.world import StudioObject
from pullback.resources import TINY_MODEL, TINY_MV
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def tiny() -> models.DiffusionModel:
    loaded = models.load(TINY_MODEL)
    assert isinstance(loaded, models.DiffusionModel)
    return loaded


shipped = pytest.mark.parametrize("folder", [TINY_MODEL, TINY_MV], ids=lambda folder: folder.name)


@shipped
def test_it_fits_in_15_megabytes_and_holds_no_pickle(folder: Path):
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 15e6
    assert {f.suffix for f in files} <= {".json", ".txt", ".safetensors", ".md", ".csv"}


@shipped
def test_its_text_encoder_has_the_names_every_version_of_transformers_reads(folder: Path):
    names = load_file(folder / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names)


def test_stable_diffusions_own_pipeline_loads_it_and_samples_the_same_picture(tiny):
    """DDIM by diffusers' pipeline and by ours from one noise agree, at the pipeline's noise levels."""
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(str(TINY_MODEL), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    theirs = pipe("a red cube, front view", latents=noise, num_inference_steps=20, guidance_scale=3.0,
                  output_type="pt", height=64, width=64).images * 2 - 1  # fmt: skip
    alphas = pipe.scheduler.alphas_cumprod[pipe.scheduler.timesteps].double()
    alphas = [*alphas.tolist(), float(pipe.scheduler.final_alpha_cumprod)]
    sigmas = [((1 - a) / a) ** 0.5 for a in alphas]
    denoise = models.GuidedDenoiser(tiny, models.fixed_text(tiny, "a red cube, front view"), 3.0)
    noisy = noise / alphas[0] ** 0.5
    for sigma, following in itertools.pairwise(sigmas):
        x0 = denoise(noisy, sigma, None)
        noisy = x0 + following / sigma * (noisy - x0)
    ours = tiny.decode(noisy / (1 + sigmas[-1] ** 2) ** 0.5).clamp(-1, 1)
    assert (ours - theirs).abs().max() < 0.02


def test_its_autoencoder_keeps_28_decibels(tiny):
    assert statistics.median(model.reconstruction_psnr(tiny, 24, seed=5)) >= 28


def test_it_draws_what_it_is_asked_for(tiny):
    """The card's figure is a share of 256; were the true share 0.9, fewer than 9 of 12 right had a chance of 3 %."""
    wanted = OBJECTS
    pictures = model.sample_pictures(tiny, [f"{o.caption}, side view" for o in wanted], 3.0, seed=11, levels=12)
    found = naming.PictureBank(azimuths=12, elevations=(0, 20, 40, 60)).name(pictures)
    assert sum(f == w for f, w in zip(found, wanted, strict=True)) >= 9


@shipped
def test_the_card_says_how_it_was_made(folder: Path):
    training = json.loads((folder / "training.json").read_text())
    curves = (folder / "curves.csv").read_text().splitlines()
    last = {row.split(",")[0]: row.split(",")[1] for row in curves[1:]}
    stages = {name: part for name, part in training.items() if isinstance(part, dict)}
    assert last == {name: str(part["steps"]) for name, part in stages.items()}
    card = (folder / "README.md").read_text()
    assert "PSNR" in card and "seed" in card


@pytest.mark.slow
def test_a_prompt_becomes_the_nerf_of_the_object_it_names(tmp_path):
    from pullback.resources import TINY_CONFIG

    obj = StudioObject("cube", "red", "blue")
    row = prompts.run_one(TINY_CONFIG, obj, 0, tmp_path, [], threads=torch.get_num_threads())
    assert row.get("right"), row
    assert row["psnr"] >= 20
