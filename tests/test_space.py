"""The forms that a denoiser may have, and what the sampler refuses of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pullback import Sampler, diffreps, karras_sigmas, sample
from pullback.denoiser import Decoder, Denoiser, JointDenoiser, LatentDenoiser
from pullback.errors import UserError
from pullback.fitting import GaussNewton
from torch import Tensor

D = torch.float64
SIGMAS = karras_sigmas(3, 0.1, 2.0).to(D)
MEAN = 0.25


def plain(noisy: Tensor, sigma: float, views: Any) -> Tensor:
    """The prior N(0.25, 1) of every pixel."""
    return MEAN + (noisy - MEAN) / (1 + sigma**2)


class Counted:
    """The same as an object, of two network evaluations per view."""

    nfe_per_view = 2

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        return plain(noisy, sigma, views)


class Joint(Counted):
    """The same for pairs of views."""

    group_size = 2


class Encoder:
    """A denoiser of latents that are half as large as the images; it cannot decode."""

    def __init__(self, fit_space: str) -> None:
        self.fit_space = fit_space

    def encode(self, images: Tensor) -> Tensor:
        return images / 2

    def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        return plain(noisy, sigma, views)


class Autoencoder(Encoder):
    """The same with a decoder."""

    def decode(self, latents: Tensor) -> Tensor:
        return 2 * latents


def run(denoise: Denoiser, views: int = 2, order: int | str = 1) -> Any:
    generator = torch.Generator().manual_seed(0)
    rep = diffreps.Pixels(views, 3, 4, 4).double()
    solver = GaussNewton(cg_iterations=1)
    arguments = rep, list(range(views)), denoise, SIGMAS, "independent"
    return sample(*arguments, solver=solver, order=order, generator=generator)


def test_a_denoiser_is_told_apart_by_what_it_has():
    autoencoder = Autoencoder("image")
    assert isinstance(autoencoder, LatentDenoiser) and isinstance(autoencoder, Decoder)
    assert isinstance(Encoder("image"), LatentDenoiser) and not isinstance(Encoder("image"), Decoder)
    assert isinstance(Joint(), JointDenoiser) and not isinstance(Joint(), LatentDenoiser)
    assert not isinstance(plain, (LatentDenoiser, Decoder, JointDenoiser))


def test_a_function_an_object_and_pairs_of_views_give_the_same_run():
    function, counted, joint = run(plain), run(Counted()), run(Joint())
    assert torch.equal(function.renders, counted.renders) and torch.equal(function.renders, joint.renders)
    assert (function.nfe, counted.nfe, joint.nfe) == (3 * 2, 3 * 2 * 2, 3 * 2 * 2)


@pytest.mark.parametrize("order", [1, 2, "multistep"])
@pytest.mark.parametrize("fit_space", ["image", "latent"])
def test_latents_follow_the_run_of_plain_images(fit_space: str, order: int | str):
    expected = 2 * run(plain, order=order).renders
    assert torch.allclose(run(Autoencoder(fit_space), order=order).renders, expected, atol=1e-12)


def test_targets_are_decoded_for_a_fit_of_images_alone():
    class Watched(Autoencoder):
        decoded = 0

        def decode(self, latents: Tensor) -> Tensor:
            self.decoded += 1
            return super().decode(latents)

    for order, expected in ((1, 3), ("multistep", 3), (2, 5)):
        image, latent = Watched("image"), Watched("latent")
        run(image, order=order)
        run(latent, order=order)
        assert (image.decoded, latent.decoded) == (expected, 0)


def test_a_denoiser_that_counts_its_own_calls_is_believed():
    class Own(Counted):
        nfe = 7

        def __call__(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
            self.nfe += 5 if sigma > 1 else 1
            return plain(noisy, sigma, views)

    assert run(Own()).nfe == sum(5 if sigma > 1 else 1 for sigma in SIGMAS[:-1].tolist())


def test_latents_without_a_decoder_are_fitted_as_latents_only():
    assert torch.allclose(run(Encoder("latent")).renders, 2 * run(plain).renders, atol=1e-12)
    with pytest.raises(
        UserError, match=r"^the denoiser has encode but no decode; give it one, or fit_space = 'latent'$"
    ):
        run(Encoder("image"))
    with pytest.raises(UserError, match=r"^the denoiser's fit_space must be 'image' or 'latent', not 'pixels'$"):
        run(Autoencoder("pixels"))


def test_a_joint_denoiser_refuses_an_incomplete_group():
    for views in (1, 3):
        with pytest.raises(
            UserError, match=rf"^the denoiser sees 2 views at a time; use a multiple of it, not {views}$"
        ):
            run(Joint(), views)
    rep = diffreps.Pixels(3, 4, 4).double()
    sampler = Sampler(rep, [0, 1, 2, 3], Joint(), SIGMAS)
    assert sampler.visit(sampler.initial()).nfe == 4 * 2
