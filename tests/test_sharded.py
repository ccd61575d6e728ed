"""A model's calls shared out over processes: the same sample from one, two and four, resumed by another number too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pullback
import pytest
import torch
from forked import together
from pullback import models
from pullback.errors import UserError
from tiny_pipeline import build

VIEWS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.LatentModel:
    folder = tmp_path_factory.mktemp("model")
    build(folder)
    return models.load(folder)


def begun(model: Any) -> pullback.Sampler:
    torch.manual_seed(0)
    size = model.image_size
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, "a red cube"), 2.5)
    sigmas = pullback.karras_sigmas(4, 0.3, 10.0)
    generator = torch.Generator().manual_seed(1)
    return pullback.Sampler(
        pullback.diffreps.Pixels(VIEWS, 3, size, size), list(range(VIEWS)), denoise, sigmas, noise="independent",
        solver=pullback.FirstOrder(steps=5), generator=generator,
    )  # fmt: skip


def sampled(model: models.LatentModel, saved: dict[str, Any] | None = None, visits: int = 4) -> dict[str, Any]:
    sharded = models.Sharded(model)
    sampler = begun(sharded)
    state = sampler.initial() if saved is None else sampler.restore(saved)
    for _ in range(visits):
        state = sampler.visit(state)
    renders = sampler.space.render(sampler.views)
    return {"renders": renders, "views": sharded.views, "nfe": state.nfe, "state": state.state_dict()}


def test_the_sample_does_not_depend_on_the_number_of_processes(model: models.LatentModel, tmp_path: Path) -> None:
    runs = {count: together(count, tmp_path / str(count), lambda rank: sampled(model)) for count in (1, 2, 4)}
    (alone,) = runs[1]
    assert alone["nfe"] == alone["views"] == 4 * 2 * VIEWS
    for count in (2, 4):
        for run in runs[count]:
            assert (run["renders"] - alone["renders"]).abs().max() < 1e-5
            assert run["nfe"] == alone["nfe"]  # as many calls in all
            assert run["views"] <= 4 * math.ceil(2 * VIEWS / count)  # and a share of them in each
        assert sum(run["views"] for run in runs[count]) == alone["nfe"]
        assert all(torch.equal(run["renders"], runs[count][0]["renders"]) for run in runs[count])
    assert alone["renders"].std() > 0.05


def test_a_run_goes_on_with_another_number_of_processes(model: models.LatentModel, tmp_path: Path) -> None:
    (whole,) = together(1, tmp_path / "whole", lambda rank: sampled(model))
    half = together(2, tmp_path / "half", lambda rank: sampled(model, visits=2))[0]
    for count in (1, 4):
        ends = together(count, tmp_path / str(count), lambda rank: sampled(model, half["state"], 2))
        assert all((end["renders"] - whole["renders"]).abs().max() < 1e-5 for end in ends)


def test_fewer_views_than_processes(model: models.LatentModel, tmp_path: Path) -> None:
    noisy = torch.randn(3, model.latent_channels, 4, 4)
    text = model.encode_prompt(["a red cube"] * 3)
    found = together(4, tmp_path / "few", lambda rank: models.Sharded(model).predict_x0(noisy, 1.0, text))
    wanted = model.predict_x0(noisy, 1.0, text)
    assert all((x0 - wanted).abs().max() < 1e-5 for x0 in found)


def test_it_needs_processes_that_know_of_each_other(model: models.LatentModel) -> None:
    with pytest.raises(UserError, match=r"a sharded model needs torch\.distributed"):
        models.Sharded(model)
