"""Autoencoders in place of a model's own: diffusers' conventions of each class, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from pullback import GaussNewton, diffreps, karras_sigmas, models, sample
from pullback.errors import UserError
from pullback.fitting.linearise import FlatRender
from pullback.host import launch
from test_system import arguments, checkpoint
from tiny_pipeline import build
from torch import Tensor

D = torch.float64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


def tiny(path: Path, stages: int = 2, **config: Any) -> Path:
    """A folder of an AutoencoderTiny with random weights, 2^(stages − 1) pixels a latent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        widths, blocks = (8,) * stages, (1,) * stages
        vae = AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths, num_encoder_blocks=blocks,
            num_decoder_blocks=blocks, **config,
        )  # fmt: skip
    vae.save_pretrained(path)
    return path


def kl(path: Path, **config: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        vae = AutoencoderKL(
            block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, **{"latent_channels": 4, **config},
        )  # fmt: skip
    vae.save_pretrained(path)
    return path


def images(count: int = 3) -> Tensor:
    return 2 * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=D) - 1


@pytest.mark.parametrize("scaling", [{}, {"scaling_factor": 0.7}])
@pytest.mark.parametrize("make", [tiny, kl])
def test_latents_and_pictures_are_those_of_diffusers_pipelines(
    make: Any, scaling: dict[str, float], folder: Path, tmp_path: Path
):
    path = make(tmp_path / "vae", **scaling)
    model: Any = models.load(folder, dtype=D, vae=path)
    vae = (AutoencoderTiny if make is tiny else AutoencoderKL).from_pretrained(str(path)).to(D)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(str(folder), vae=vae, safety_checker=None, torch_dtype=D)
    with torch.no_grad():
        # what the pipeline does in prepare_latents, and at its end
        reference = pipe.vae.config.scaling_factor * retrieve_latents(pipe.vae.encode(images()), sample_mode="argmax")
        pictures = pipe.vae.decode(reference / pipe.vae.config.scaling_factor, return_dict=False)[0]
        found = model.encode(images())
    assert torch.allclose(found, reference, atol=1e-12)
    assert torch.allclose(model.decode(found, chunk=2), pictures, atol=1e-12)
    assert (model.vae_scale_factor, model.image_size) == (2, 16)


def test_taesd_takes_pictures_from_0_to_1_and_bounds_its_latents(folder: Path, tmp_path: Path):
    model: Any = models.load(folder, dtype=D, vae=tiny(tmp_path / "vae"))
    with torch.no_grad():
        z = model.vae.encoder.layers((images() + 1) / 2)
        assert torch.allclose(model.encode(images()), z, atol=1e-14)  # already as the network takes them
        large = 50 * z
        pictures = 2 * model.vae.decoder.layers(3 * torch.tanh(large / 3)) - 1
    assert torch.allclose(model.decode(large), pictures, atol=1e-12)


def test_a_shift_is_taken_off_before_the_scale(folder: Path, tmp_path: Path):
    plain: Any = models.load(folder, dtype=D, vae=tiny(tmp_path / "plain"))
    moved: Any = models.load(folder, dtype=D, vae=tiny(tmp_path / "moved", scaling_factor=0.7, shift_factor=0.1))
    z = plain.encode(images())
    assert torch.allclose(moved.encode(images()), (z - 0.1) * 0.7, atol=1e-12)
    assert torch.allclose(moved.decode((z - 0.1) * 0.7), plain.decode(z), atol=1e-12)


def test_gradients_pass_and_the_fingerprint_knows_it(folder: Path, tmp_path: Path):
    path = tiny(tmp_path / "vae")
    own, other = models.load(folder), models.load(folder, vae=path)
    assert own.fingerprint() != other.fingerprint() == models.load(folder, vae=path).fingerprint()
    pictures = images().float().requires_grad_()
    other.encode(pictures).square().sum().backward()
    assert pictures.grad is not None and float(pictures.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in other.vae.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [tiny, kl])
def test_derivatives_forwards_through_its_attention(make: Any, folder: Path, tmp_path: Path):
    """What Gauss–Newton, Langevin and Projection need of a fit in latents; attention's usual kernel has none."""
    model: Any = models.load(folder, dtype=D, vae=make(tmp_path / "vae"))
    function = FlatRender(diffreps.Pixels(1, 3, 16, 16).double(), [0], model.encode)
    at, v = images(2)[:, None].flatten(1)
    z, push, pull = function.linearise(at)
    moved = (function(at + 1e-5 * v) - function(at - 1e-5 * v)) / 2e-5
    assert torch.allclose(push(v), moved, rtol=1e-5, atol=1e-7)
    assert float((push(v) * z).sum()) == pytest.approx(float(v @ pull(z)), rel=1e-9)


def test_langevin_moves_a_picture_in_latents(folder: Path):
    model, rep = models.load(folder), diffreps.Pixels(1, 3, 16, 16)
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, "a red cube"), 1.0)
    result = sample(
        rep, [0], denoise, karras_sigmas(3, 0.5, 5.0), noise="independent", constraint="langevin",
        solver=GaussNewton(1, 2), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert len(result.history) == 3 and rep.values.isfinite().all() and rep.values.std() > 0.1


def test_what_does_not_belong_to_the_model_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    deep, wide = tiny(tmp_path / "deep", stages=4), kl(tmp_path / "wide", latent_channels=16)
    cases = {
        deep: "pixels per latent: 8, but the model has 2",
        wide: "channels of the latents: 16, but the model has 4",
        folder / "unet": "holds a UNet2DConditionModel; use an AutoencoderKL or AutoencoderTiny",
        tmp_path / "empty": "it has no config.json",
    }
    for path, words in cases.items():
        with pytest.raises(UserError, match=r"^vae cannot take the place of the model's autoencoder: ") as refusal:
            models.load(folder, vae=path)
        assert words in str(refusal.value) and "\n" not in str(refusal.value)
    broken = tiny(tmp_path / "broken")
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"no tensors")
    block = {"name": str(folder), "half_precision_weights": True, "vae": str(broken)}
    with pytest.raises(UserError, match=r"^`system\.guidance\.vae` cannot take .*: .*broken cannot be loaded"):
        models.load_configured(block, "name", "system.guidance.name", torch.device("cpu"))


@pytest.mark.parametrize("fit_space", ["image", "latent"])
def test_a_run_with_another_autoencoder(fit_space: str, folder: Path, tmp_path: Path):
    more = [f"system.guidance.vae={tiny(tmp_path / 'vae')}", f"system.guidance.fit_space={fit_space}"]
    assert launch.main(arguments(folder, tmp_path / "out", *more, "trainer.max_steps=1", "data.n_test_views=1")) == 0
    assert checkpoint(tmp_path / "out")["global_step"] == 1
