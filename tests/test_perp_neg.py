"""Perp-Neg against its definition, on a small random model in float64."""

from __future__ import annotations

import pytest
import torch
from pullback import models
from pullback.models.perp_neg import perpendicular
from tiny_pipeline import build
from torch import Tensor

SCALE, SIGMA = 7.5, 2.5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.DiffusionModel:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    loaded = models.load(path, dtype=torch.float64)
    assert isinstance(loaded, models.DiffusionModel)
    return loaded


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def texts(model: models.DiffusionModel) -> tuple[Tensor, Tensor, Tensor]:
    cond = model.encode_prompt(["a red cube, front view", "a red cube, side view", "a ball"])
    uncond = model.encode_prompt([""]).expand(3, -1, -1)
    negatives = model.encode_prompt(["back view", "side view", "of", "a", "blue", "and"]).unflatten(0, (3, 2))
    return cond, uncond, negatives


def denoiser(model: models.DiffusionModel, *text: Tensor, chunk: int | None = None) -> models.PerpNegDenoiser:
    return models.PerpNegDenoiser(model, lambda views: text, SCALE, chunk=chunk)  # type: ignore[arg-type,return-value]


def test_perpendicular_is_what_a_projection_leaves():
    x, y = noise(2, 3, 4, 5, 5).unbind(0)
    left = perpendicular(x, y)
    assert torch.allclose((left * y).sum((-3, -2, -1)), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    along = (x - left).flatten(1) / y.flatten(1)
    assert torch.allclose(along, along[:, :1].expand_as(along), atol=1e-9)
    assert torch.equal(perpendicular(x, torch.zeros_like(y)), x)


def test_without_weights_it_is_classifier_free_guidance(model: models.DiffusionModel):
    cond, uncond, negatives = texts(model)
    noisy = 3 * noise(3, 4, 8, 8)
    plain = models.GuidedDenoiser(model, lambda views: (cond, uncond), SCALE)(noisy, SIGMA, None)
    zero = torch.zeros(3, 2, dtype=torch.float64)
    assert torch.allclose(denoiser(model, cond, uncond, negatives, zero)(noisy, SIGMA, None), plain, atol=1e-10)
    # a negative that is the prompt itself has nothing perpendicular to it
    same = cond[:, None].expand(-1, 2, -1, -1)
    found = denoiser(model, cond, uncond, same, zero - 1)(noisy, SIGMA, None)
    assert torch.allclose(found, plain, atol=1e-9)


def test_every_view_has_its_own_negatives_whatever_the_batch(model: models.DiffusionModel):
    cond, uncond, negatives = texts(model)
    weights = torch.tensor([[-1.0, -0.5], [-0.2, 0.0], [0.0, -2.0]], dtype=torch.float64)
    noisy = 3 * noise(3, 4, 8, 8)
    expected = []
    for i in range(3):
        x0 = [model.predict_x0(noisy[i : i + 1], SIGMA, t[None]) for t in (cond[i], uncond[i], *negatives[i])]
        toward = x0[0] - x0[1]
        steer = sum(w * perpendicular(n - x0[1], toward) for w, n in zip(weights[i], x0[2:], strict=True))
        expected.append(x0[1] + SCALE * (toward + steer))
    for chunk in (None, 1, 2):
        denoise = denoiser(model, cond, uncond, negatives, weights, chunk=chunk)
        assert denoise.nfe_per_view == 4
        assert torch.allclose(denoise(noisy, SIGMA, None), torch.cat(expected), atol=1e-10)
