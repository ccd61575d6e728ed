"""`pullback-guidance` as a drop-in: its levels and noise as functions of the step, its loss, its messages."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pullback import FreshBelow, Repaint
from pullback.adapters.guidance.annealing import Annealing
from pullback.adapters.guidance.drop_in import WEIGHTS
from pullback.adapters.guidance.guidance import PullbackGuidance
from pullback.constraints import Visit
from pullback.diffreps import orbit
from pullback.errors import NonFiniteError, UserError
from pullback.host.registry import _classes
from pullback.noise import COUPLINGS
from pullback.sampling.schedule import karras_sigmas
from tiny_pipeline import build
from torch import Tensor

SIGMAS = karras_sigmas(6, 0.1, 10.0)
LIKE = torch.zeros(2, 4, 8, 8)
VIEWS: dict[str, Any] = {
    "elevation": torch.tensor([0.0, 30.0]),
    "azimuth": torch.tensor([0.0, 170.0]),
    "camera_distances": torch.ones(2),
    "camera_positions": torch.eye(3)[:2],
    "fovy": torch.full((2,), 0.9),
    "c2w": orbit(torch.tensor([10.0, 20.0]), torch.tensor([0.0, 90.0])),
}


# levels and noise


@pytest.mark.parametrize("total", [3, 12, 100])
def test_levels_fall_once_and_the_last_is_reached(total: int):
    annealing = Annealing(SIGMAS, Repaint(2), total, COUPLINGS["shared"], seed=0)
    levels = [annealing.level(k) for k in range(total)]
    assert levels[0] == 0 and levels == sorted(levels)
    assert annealing.level(total) == annealing.level(10 * total) == 5
    if total % 12 == 0:
        assert [levels.count(i) for i in range(6)] == [total // 6] * 6


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_noise_depends_on_seed_and_step_alone(coupling: str):
    def annealing(seed: int = 0) -> Annealing:
        return Annealing(SIGMAS, Repaint(3), 36, COUPLINGS[coupling], seed)

    one = annealing()
    path = [one.noise(k, LIKE, VIEWS) for k in range(36)]
    for k in (0, 1, 7, 35):
        assert torch.equal(annealing().noise(k, LIKE, VIEWS), path[k])
    assert torch.equal(one.noise(3, LIKE, VIEWS), path[3])  # and back again
    assert not torch.equal(annealing(1).noise(5, LIKE, VIEWS), path[5])


def test_noise_stays_white_and_forgets_as_repaint_does():
    """Over 3 visits of a level, two refreshes: correlation (σ'/σ)². 5 standard errors: one run in a million fails."""
    like = torch.zeros(1, 4, 160, 160)
    annealing = Annealing(SIGMAS, Repaint(3), 18, COUPLINGS["shared"], seed=1)
    first, last = (annealing.noise(k, like, VIEWS).flatten() for k in (0, 2))
    n = len(first)
    for x in (first, last):
        assert abs(float(x.mean())) < 5 / math.sqrt(n)
        assert abs(float(x.var()) - 1) < 5 * math.sqrt(2 / n)
    kept = float(SIGMAS[1] / SIGMAS[0]) ** 2
    assert abs(float((first * last).mean()) - kept) < 5 * math.sqrt((1 + kept**2) / n)
    # between levels nothing is refreshed
    assert torch.equal(annealing.noise(3, like, VIEWS).flatten(), last)


def test_below_settle_every_visit_has_noise_of_its_own():
    settle = float(SIGMAS[2]) * 1.01
    kept, settled = (
        Annealing(SIGMAS, constraint, 18, COUPLINGS["shared"], 1)
        for constraint in (Repaint(3), FreshBelow(settle, Repaint(3)))
    )
    path = [settled.noise(k, LIKE, VIEWS) for k in range(18)]
    same = [torch.equal(kept.noise(k, LIKE, VIEWS), noise) for k, noise in enumerate(path)]
    assert same == [True] * 4 + [False] * 14  # the step from level 1 leads to σ_2, so all after its first visit
    assert torch.equal(settled.noise(9, LIKE, VIEWS), path[9])
    pairs = [float((a[0] * b[0]).mean()) for a, b in pairwise(path[3:])]
    assert max(map(abs, pairs)) < 5 / math.sqrt(LIKE[0].numel())


def test_by_default_the_noise_of_two_steps_is_the_same(folder: Path):
    """`cycles` belongs to repaint; the default constraint is none, as in the system."""
    made = PullbackGuidance({"pretrained_model_name_or_path": str(folder), "levels": 6, "trainer_max_steps": 24})
    annealing = made._start(None)
    path = [annealing.noise(k, LIKE, VIEWS) for k in range(24)]
    assert annealing.visits == 6 and all(torch.equal(noise, path[0]) for noise in path)


def test_the_constraints_of_the_sampler_decide(folder: Path):
    """A drop-in's noises are those that the system's constraint object makes of the same draws."""
    options = {"constraint": {"type": "repaint", "cycles": 3}, "settle_sigma": 0.5, "trainer_max_steps": 18}
    annealing = guidance(folder, **options)._start(None)
    constraint = annealing.constraint
    assert constraint == FreshBelow(0.5, Repaint(3))
    source = annealing._draw("visit", 0, LIKE)()
    for k in range(18):
        assert torch.equal(annealing.noise(k, LIKE, VIEWS), source.expand_as(LIKE))
        sigma, sigma_next = annealing.sigmas[k // 3 : k // 3 + 2]
        draw = annealing._draw("visit", k + 1, LIKE)
        visit = Visit(sigma, sigma_next, k % 3, LIKE, LIKE, LIKE, source, draw, None, lambda images, iterations: images)
        source, _ = constraint.renoise(visit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"constraint": "projection", "noise": "independent"}, ["`system.guidance.constraint`", "projection"]),
        ({"order": 2}, ["`system.guidance.order` is 2"]),
        ({"order": "multistep"}, ["`system.guidance.order` is multistep"]),
        ({"guidance_policy": "adaptive"}, ["`system.guidance.guidance_policy` is adaptive", "interval"]),
        ({"tries": 3}, ["`system.guidance.tries` is 3"]),
        ({"preset": "faithful"}, ["`system.guidance.tries` is 24", "faithful"]),
    ],
)
def test_what_a_loss_cannot_do_is_refused(folder: Path, options: dict[str, Any], words: list[str]):
    made = guidance(folder, **options)
    with pytest.raises(UserError) as refusal:
        made(picture(), Prompts(made.model), **VIEWS)
    assert all(word in str(refusal.value) for word in [*words, "pullback-system"])


def test_weights_are_threestudios_of_the_noise_residual():
    alpha = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    for a in alpha.tolist():
        sigma = math.sqrt((1 - a) / a)
        for name, w in (("uniform", 1), ("sds", 1 - a), ("fantasia3d", math.sqrt(a) * (1 - a))):
            assert WEIGHTS[name](sigma) * sigma == pytest.approx(w)  # (u − x̂0) = σ (ε̂ − ε)


# the loss


class Prompts:
    use_perp_neg = False

    def __init__(self, model: Any) -> None:
        self.texts = model.encode_prompt(["a red cube", "a blue ball", "", ""])

    def get_text_embeddings(self, elevation: Tensor, azimuth: Tensor, distances: Tensor, dependent: bool) -> Tensor:
        return self.texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


def guidance(folder: Path, **options: Any) -> PullbackGuidance:
    made = PullbackGuidance(
        {"pretrained_model_name_or_path": str(folder), "levels": 6, "cycles": 1, "trainer_max_steps": 6, **options}
    )
    made.update_step(0, 3)
    return made


def picture(requires_grad: bool = True) -> Tensor:
    drawn = torch.rand(2, 12, 12, 3, generator=torch.Generator().manual_seed(0))
    return drawn.requires_grad_(requires_grad)


def x0_of(made: PullbackGuidance, rgb: Tensor) -> tuple[Any, Tensor, Tensor]:
    """The denoiser, u and x̂0 in latents, step by step as method.md writes it."""
    denoise = made.denoiser(Prompts(made.model))
    latents = denoise.encode(rgb.movedim(-1, 1) * 2 - 1)
    annealing = made._start(None)
    sigma = annealing.sigmas[annealing.level(3)]
    noisy = latents + sigma * annealing.noise(3, latents, VIEWS)
    return denoise, latents, denoise(noisy, sigma, VIEWS)


def test_in_image_space_the_gradient_is_the_residual_to_the_decoded_target(folder: Path):
    made, rgb = guidance(folder), picture()
    out = made(rgb, Prompts(made.model), **VIEWS, light_positions=torch.zeros(2, 3), height=12)
    out["loss_pullback"].backward()
    denoise, _, x0 = x0_of(made, rgb.detach())
    difference = rgb.detach() * 2 - 1 - denoise.decode(x0).movedim(1, -1)
    assert torch.allclose(rgb.grad, 2 * difference / 2, atol=1e-5)  # d(2 rgb − 1), B = 2
    assert out["loss_pullback"].item() == pytest.approx(0.5 * float(difference.square().sum()) / 2, rel=1e-4)
    assert out["residual"] == pytest.approx(float(difference.square().mean().sqrt()), rel=1e-4)
    assert out["level"] == 3.0


def test_in_latent_space_the_gradient_passes_the_encoder(folder: Path):
    made, rgb = guidance(folder, fit_space="latent", weighting_strategy="sds"), picture()
    out = made(rgb, Prompts(made.model), **VIEWS)
    out["loss_pullback"].backward()
    other = picture()
    _, latents, x0 = x0_of(made, other)
    weight = out["sigma"] / (1 + out["sigma"] ** 2)
    (weight * 0.5 * (latents - x0.detach()).square().sum() / 2).backward()
    assert rgb.grad is not None and other.grad is not None
    assert torch.allclose(rgb.grad, other.grad, atol=1e-5)


def test_guidance_in_an_interval_is_that_of_the_step(folder: Path):
    """Outside of the interval a step's loss is that of the conditional model alone, inside the guided one's."""

    def loss(**options: Any) -> float:
        made = guidance(folder, **options)
        return made(picture(), Prompts(made.model), **VIEWS)["loss_pullback"].item()

    sigma = guidance(folder)(picture(), Prompts(guidance(folder).model), **VIEWS)["sigma"]
    inside = {"type": "interval", "sigma_low": sigma * 0.9, "sigma_high": sigma * 1.1}
    below = {"type": "interval", "sigma_high": sigma * 0.9}
    assert loss(guidance_policy=inside) == loss() != loss(guidance_scale=1.0)
    assert loss(guidance_policy=below) == loss(guidance_scale=1.0)


def test_latents_as_renders(folder: Path):
    made = guidance(folder)
    latents = torch.randn(2, 8, 8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = made(latents, Prompts(made.model), **VIEWS, rgb_as_latents=True)
    out["loss_pullback"].backward()
    denoise, annealing = made.denoiser(Prompts(made.model)), made._start(None)
    u = latents.detach().movedim(-1, 1)
    x0 = denoise(u + out["sigma"] * annealing.noise(3, u, VIEWS), out["sigma"], VIEWS)
    assert torch.allclose(latents.grad, (u - x0).movedim(1, -1) / 2, atol=1e-5)


def test_every_logged_value_is_a_single_number(folder: Path):
    made = guidance(folder)
    out = made(picture(), Prompts(made.model), **VIEWS)
    assert set(out) == {"loss_pullback", "residual", "sigma", "level"}
    assert all(isinstance(v, float) or v.numel() == 1 for v in out.values())


def test_gradients_are_clipped_where_asked(folder: Path):
    made, rgb = guidance(folder, grad_clip=0.01), picture()
    made(rgb, Prompts(made.model), **VIEWS)["loss_pullback"].backward()
    assert rgb.grad is not None and float(rgb.grad.abs().max()) == pytest.approx(0.01)


def test_the_pictures_of_a_validation(folder: Path):
    made = guidance(folder)
    with torch.no_grad():
        shown = made(picture(False)[:1], one_view(made), **{k: v[:1] for k, v in VIEWS.items()}, test_info=True)
    assert set(shown) == {"noisy_img", "noise_img", "target"}
    for image in shown.values():
        assert image.shape == (12, 12, 3) and 0 <= float(image.min()) <= float(image.max()) <= 1


def one_view(made: PullbackGuidance) -> Prompts:
    prompts = Prompts(made.model)
    prompts.texts = prompts.texts[[0, 2]]
    return prompts


# messages


def test_a_nan_names_step_level_sigma_and_view(folder: Path):
    made, rgb = guidance(folder), picture(False)
    rgb[1, 3, 4, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"step 3, level 3, sigma .*the render .*view 1"):
        made(rgb, Prompts(made.model), **VIEWS)


def test_shares_of_the_models_time_bound_the_noise(folder: Path):
    made = guidance(folder, min_step_percent=0.1, max_step_percent=[5000, 0.5, 0.3, 5001])
    times = made.model.schedule.sigmas
    sigmas = made.sigmas()
    n = len(times)
    assert float(sigmas[0]) == pytest.approx(float(times[n // 2]))
    assert float(sigmas[-2]) == pytest.approx(float(times[n // 10]))
    assert float(guidance(folder, min_step_percent=0.1, sigma_min=0.5).sigmas()[-2]) == pytest.approx(0.5)


def test_keys_of_other_guidances_are_left_alone_and_typos_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from dataclasses import dataclass

    @dataclass
    class Config:
        sqrt_anneal: bool = False
        guidance_scale: float = 100.0

    monkeypatch.setitem(_classes, "other-guidance", SimpleNamespace(Config=Config))
    assert guidance(folder, sqrt_anneal=True, guidance_scale=5.0).cfg.guidance_scale == 5.0
    with pytest.raises(UserError, match="did you mean `guidance_scale`"):
        guidance(folder, guidance_scal=5.0)
