"""Guidance in an interval and until both predictions agree: values, calls, and what a resumed run needs."""

from __future__ import annotations

import io
import math
from typing import Any

import pullback
import pytest
import torch
from pullback import diffreps, models
from pullback.errors import UserError
from pullback.models.guidance_policy import Adaptive, Interval
from torch import Tensor

D = torch.float64
SCALE = 3.0
MEAN = torch.tensor([[0.6, 0.2], [0.1, -0.4]], dtype=D).expand(3, 2, 2)  # of the pictures with the prompt
WIDTH = 0.3


class Gaussians:
    """Two priors N(mean · m, w²) of every pixel; the text is m [V,1,1], 1 with the prompt, else less."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict_x0(self, noisy: Tensor, sigma: Any, text: Tensor) -> Tensor:
        self.rows.append(len(noisy))
        mean = MEAN * text[..., None]
        sigma = sigma.view(-1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma
        width = torch.where(text[..., None] == 1, WIDTH, 0.6)
        return mean + (noisy - mean) * width**2 / (width**2 + sigma**2)

    def encode(self, images: Tensor) -> Tensor:
        self.rows.append(len(images))
        return images

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        return latents


def guided(policy: Any = "always", scale: float = SCALE, chunk: int | None = None) -> tuple[Any, Gaussians]:
    model: Any = Gaussians()
    text = torch.ones(1, 1, 1, dtype=D), torch.zeros(1, 1, 1, dtype=D)
    return models.GuidedDenoiser(model, lambda views: text, scale, chunk=chunk, policy=policy), model


def perp_neg(policy: Any, chunk: int | None = None) -> tuple[Any, Gaussians]:
    model: Any = Gaussians()

    def text(views: Any) -> Any:
        count = len(views)
        one = torch.ones(count, 1, 1, dtype=D)
        return one, 0 * one, 0.5 * one[:, None].expand(-1, 2, 1, 1), -torch.ones(count, 2, dtype=D)

    return models.PerpNegDenoiser(model, text, SCALE, chunk=chunk, policy=policy), model


def pictures(count: int = 5) -> Tensor:
    return 2 * torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=D)


# the interval


@pytest.mark.parametrize("make", [guided, perp_neg])
@pytest.mark.parametrize("chunk", [None, 2])
def test_guidance_is_there_inside_the_interval_alone(make: Any, chunk: int | None):
    policy = {"type": "interval", "sigma_low": 0.5, "sigma_high": 4.0}
    noisy, views = pictures(), range(5)
    for sigma, inside in ((0.4, False), (0.5, False), (0.51, True), (4.0, True), (4.1, False)):
        denoise, model = make(policy, chunk=chunk)
        always, _ = make("always")
        alone, _ = guided("always", scale=1.0)
        expected = (always if inside else alone)(noisy, sigma, views)
        assert torch.allclose(denoise(noisy, sigma, views), expected, atol=1e-14)
        assert denoise.nfe == sum(model.rows) == 5 * (always.nfe_per_view if inside else 1)
        assert max(model.rows) <= (chunk or 5) * always.nfe_per_view and denoise.memory is None


@pytest.mark.parametrize("make", [guided, perp_neg])
@pytest.mark.parametrize("chunk", [None, 2])
def test_views_at_their_own_levels_are_guided_one_by_one(make: Any, chunk: int | None):
    policy, noisy = Interval(0.5, 4.0), pictures()
    levels = torch.tensor([5.0, 1.0, 0.2, 3.0, 2.0], dtype=D)
    denoise, model = make(policy, chunk=chunk)
    found = denoise(noisy, levels, range(5))
    for i, level in enumerate(levels.tolist()):
        one, _ = make(policy)
        assert torch.allclose(found[i : i + 1], one(noisy[i : i + 1], level, [i]), atol=1e-14)
    assert denoise.nfe == sum(model.rows) == 3 * denoise.nfe_per_view + 2


@pytest.mark.parametrize("wrong", [
    {"type": "interval", "sigma_low": 2.0, "sigma_high": 1.0}, {"type": "interval", "sigma_low": -1.0},
    {"type": "adaptive", "threshold": 0.0}, {"type": "adaptive", "threshold": 1.5}, {"type": "adaptive", "limit": 1.0},
    "sometimes",
])  # fmt: skip
def test_policies_that_make_no_sense_are_refused(wrong: Any):
    with pytest.raises(UserError, match="guidance"):
        guided(wrong)


# until both agree


def cosine(noisy: Tensor, sigma: float) -> float:
    """The least cosine of the two predictions over the views."""
    texts = (torch.full((1, 1, 1), m, dtype=D) for m in (1.0, 0.0))
    cond, uncond = (Gaussians().predict_x0(noisy, sigma, text).flatten(1) for text in texts)
    return float(((cond * uncond).sum(1) / (cond.norm(dim=1) * uncond.norm(dim=1))).min())


@pytest.mark.parametrize("make", [guided, perp_neg])
@pytest.mark.parametrize("chunk", [None, 2])
def test_guidance_ends_with_the_call_after_the_one_that_agrees(make: Any, chunk: int | None):
    noisy, views = pictures(), range(5)
    levels = [1.0, 0.7, 0.5, 0.3, 0.3, 0.1]
    cosines = [cosine(noisy, level) for level in levels]
    assert cosines == sorted(cosines)
    threshold = (cosines[1] + cosines[2]) / 2
    denoise, model = make(Adaptive(threshold), chunk=chunk)
    always, _ = make("always")
    alone, _ = guided(scale=1.0)
    calls = []
    for level in levels:
        before = denoise.nfe
        expected = (always if level >= 0.5 else alone)(noisy, level, views)
        assert torch.allclose(denoise(noisy, level, views), expected, atol=1e-14)
        calls.append(denoise.nfe - before)
    assert calls == [5 * always.nfe_per_view] * 3 + [5] * 3
    assert denoise.memory == 0.5 and denoise.nfe == sum(model.rows)
    denoise(noisy, 2.0, views)  # a run that goes back up is guided again
    assert denoise.nfe == sum(calls) + 5 * always.nfe_per_view


def test_a_nan_never_agrees_and_is_passed_on():
    denoise, _ = guided(Adaptive(1e-6))
    noisy = pictures()
    noisy[3, 0, 0, 0] = math.nan
    assert denoise(noisy, 0.25, range(5)).isnan().any() and denoise.memory is None


def test_wrapped_denoisers_share_memory_and_count():
    denoise, model = guided(Adaptive(0.01))
    model.image_size, model.sample_size = 2, 2  # type: ignore[attr-defined]
    wrapped = models.AnySize(models.RoundTrip(denoise, 1))
    wrapped(pictures(), 0.25, range(5))
    assert (wrapped.memory, wrapped.nfe, wrapped.nfe_per_view) == (0.25, 10, 2)
    wrapped.memory = None
    assert denoise.memory is None


def test_the_encoder_takes_as_many_views_as_a_call():
    for chunk, rows in ((None, [5]), (2, [2, 2, 1])):
        denoise, model = guided(chunk=chunk)
        assert torch.equal(denoise.encode(pictures()), pictures()) and model.rows == rows


# a run

SIGMAS = pullback.karras_sigmas(6, 0.1, 4.0, rho=3.0)


def arguments(policy: Any, seed: int, **more: Any) -> dict[str, Any]:
    denoise, _ = guided(policy)
    rep = diffreps.Pixels(2, 3, 2, 2).double()
    return {
        "diffrep": rep, "views": [0, 1], "denoise": denoise, "sigmas": SIGMAS, "noise": "independent",
        "solver": pullback.FirstOrder(lr=0.2, steps=3), "generator": torch.Generator().manual_seed(seed), **more,
    }  # fmt: skip


@pytest.mark.parametrize("order,cycles", [(1, 1), (2, 1), ("multistep", 1), (1, 2)])
def test_a_run_counts_the_calls_it_made(order: int | str, cycles: int):
    given = arguments(Adaptive(0.9), 1, order=order, constraint=pullback.Repaint(cycles))
    states = list(pullback.steps(**given))
    network = sum(rows for rows in given["denoise"].model.rows) - 2 * len(states) * (2 if order == 2 else 1)
    encoded = 0 if order != 2 else 2  # Heun's last step encodes once less
    assert states[-1].nfe == given["denoise"].nfe == network + encoded
    full = arguments("always", 1, order=order, constraint=pullback.Repaint(cycles))
    assert 0.5 < states[-1].nfe / list(pullback.steps(**full))[-1].nfe < 1
    assert states[0].denoiser is None and states[-1].denoiser in SIGMAS.tolist()


@pytest.mark.parametrize("order", [1, 2, "multistep"])
def test_a_resumed_run_ends_guidance_where_the_whole_one_did(order: int | str):
    saved, whole = [], arguments(Adaptive(0.9), 1, order=order)
    for state in pullback.steps(**whole):
        saved.append(io.BytesIO())
        torch.save(state.state_dict(), saved[-1])
    for file in saved[:-1]:
        file.seek(0)
        other = arguments(Adaptive(0.9), 9, order=order)
        other["denoise"].memory = 100.0  # of another run
        resumed = list(pullback.steps(**other, resume=torch.load(file, weights_only=True)))
        assert torch.equal(other["diffrep"].values, whole["diffrep"].values) and resumed[-1].nfe == state.nfe


def test_a_new_run_and_a_new_try_begin_with_guidance():
    restart = pullback.Restart(noises=(), tries=2, limit=1e-9)
    given = arguments(Adaptive(0.9), 1, restart=restart)
    given["denoise"].memory = 100.0
    states = list(pullback.steps(**given))
    assert states[-1].attempt == 1 and len(states) > 6
    first = next(i for i, state in enumerate(states) if state.attempt == 1)
    assert states[0].denoiser is None and states[first].denoiser is None
    assert [s.nfe - t.nfe for s, t in zip(states[1:2], states[:1], strict=True)] == [4]
