"""Options of the host's guidances of score distillation; threestudio/test_fidelity.py has their gradients."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback.errors import NonFiniteError, UserError
from pullback.host.distillation.sdi import StableDiffusionSDIGuidance
from pullback.host.distillation.sds import StableDiffusionGuidance
from pullback.host.distillation.vsd import StableDiffusionVSDGuidance
from pullback.host.embeddings import PromptUtils
from pullback.models.multi_view import camera_numbers
from pullback.views.cameras import orbit
from tiny_pipeline import build, build_multi_view
from torch import Tensor

KINDS = {"sds": StableDiffusionGuidance, "vsd": StableDiffusionVSDGuidance, "sdi": StableDiffusionSDIGuidance}
B = 2
VIEWS: dict[str, Any] = {
    "elevation": torch.tensor([0.0, 30.0]),
    "azimuth": torch.tensor([0.0, 170.0]),
    "camera_distances": torch.ones(B),
    "c2w": torch.eye(4).expand(B, -1, -1),
    "mvp_mtx": torch.eye(4).expand(B, -1, -1),
    "height": 12,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "sd")


def guidance(kind: str, folder: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    both = {"pretrained_model_name_or_path_lora": str(folder)} if kind == "vsd" else {}
    made: Any = KINDS[kind]({"pretrained_model_name_or_path": str(folder), **both, **options})
    made.update_step(0, 3)
    return made


def prompts(made: Any, **options: Any) -> PromptUtils:
    texts = made.model.encode_prompt(["a red cube", "a ball", "a red cube side view", "a red cube front view"])
    one, other, vd = texts[:1], texts[1:2], texts[[2, 3, 2, 3]]
    return PromptUtils("a red cube", [], one, other, vd, other.expand(4, -1, -1), 45.0, 45.0, 60.0, **options)


def picture(size: int = 12) -> Tensor:
    return torch.rand(B, size, size, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


def answer(made: Any, rgb: Tensor, seed: int = 1, **more: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    random.seed(seed)
    return made(rgb, prompts(made), **{**VIEWS, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_reaches_the_picture_and_all_else_is_a_number(kind: str, folder: Path):
    made, rgb = guidance(kind, folder), picture()
    out = answer(made, rgb)
    losses = [name for name in out if name.startswith("loss_")]
    assert losses == [f"loss_{kind}"] + (["loss_lora"] if kind == "vsd" else [])
    assert all(type(out[name]) is float for name in out.keys() - losses)
    assert {"grad_norm", "min_step", "max_step", "nfe"} == out.keys() - losses
    out[losses[0]].backward()
    assert rgb.grad is not None and float(rgb.grad.abs().sum()) > 0
    same, again = answer(guidance(kind, folder), picture()), answer(guidance(kind, folder), picture(), seed=2)
    assert same[losses[0]] == out[losses[0]] != again[losses[0]]


@pytest.mark.parametrize(
    ("kind", "options", "calls"),
    [
        ("sds", {}, 2),
        ("sds", {"guidance_scale": 0.0}, 1),  # cond + 0 (cond − uncond)
        ("sds", {"guidance_scale": 1.0, "guidance_scale_plus_one": False}, 1),
        ("vsd", {}, 2 + 1 + 1),
        ("vsd", {"guidance_scale": 1.0, "guidance_scale_lora": 2.0, "lora_n_timestamp_samples": 3}, 1 + 2 + 3),
        ("sdi", {"t_anneal": True, "min_step_percent": 0.25, "max_step_percent": 0.25}, 2 * (4 + 1)),  # 0, 1, 101, 201
        ("sdi", {"enable_sdi": False}, 2),
    ],
)
def test_every_network_evaluation_of_every_view_is_counted(kind: str, options: dict, calls: int, folder: Path):
    made, inputs = guidance(kind, folder, **options), []
    made.model.unet.register_forward_pre_hook(lambda module, args: inputs.append(len(args[0])))
    for step in (1, 2):
        out = answer(made, picture())
        assert out["nfe"] == made.nfe == sum(inputs) == step * calls * B


def test_the_scale_of_threestudio_is_one_more_in_diffusers_convention(folder: Path):
    theirs = answer(guidance("sds", folder, guidance_scale=6.5), picture())
    ours = answer(guidance("sds", folder, guidance_scale=7.5, guidance_scale_plus_one=False), picture())
    other = answer(guidance("sds", folder, guidance_scale=7.5), picture())
    assert theirs["loss_sds"] == ours["loss_sds"] != other["loss_sds"]


def test_renders_of_any_size_are_made_the_models_or_what_is_asked_for(folder: Path):
    for size, options, latents in ((12, {}, 8), (16, {}, 8), (40, {}, 8), (12, {"image_size": 32}, 16)):
        made, inputs = guidance("sds", folder, **options), []
        made.model.unet.register_forward_pre_hook(lambda module, args, inputs=inputs: inputs.append(args[0].shape[-2:]))
        answer(made, picture(size))
        assert inputs == [(latents, latents)], size
    with pytest.raises(UserError, match="multiples of 2"):
        answer(guidance("sds", folder, image_size=15), picture())


def test_pictures_have_times_of_their_own(folder: Path):
    made, inputs = guidance("sds", folder), []
    made.model.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[1]))
    for seed in range(40):
        answer(made, picture(), seed=seed)
    times = torch.stack(inputs).view(-1, 2, B)
    assert torch.equal(times[:, 0], times[:, 1])  # with the prompt and without
    assert (times[:, 0, 0] != times[:, 0, 1]).float().mean() > 0.9
    assert 20 <= float(times.min()) < 150 and 850 < float(times.max()) <= 980  # of 80 draws
    assert torch.equal(times, times.round())


def test_an_annealed_time_falls_to_the_least(folder: Path):
    rest = {"trainer_max_steps": 100, "min_step_percent": 0.2, "max_step_percent": [0, 0.8, 0.3, 10]}
    for kind, options, halfway in (("sds", {"sqrt_anneal": True}, 25), ("sdi", {"t_anneal": True}, 50)):
        made, times = guidance(kind, folder, **rest, **options), []
        for step in (0, halfway, 100, 1000):
            made.update_step(0, step)
            times.append(made.times())
        assert times == [(800, 800), (500, 500), (200, 200), (200, 200)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_names_step_and_view_or_is_set_to_zero_where_asked(kind: str, folder: Path):
    rgb = picture().detach()
    rgb[1, 3, 4, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"step 3: the render .*view 1"):
        answer(guidance(kind, folder), rgb)
    whole, masked = guidance(kind, folder), guidance(kind, folder, nan_to_num=True)
    for made in (whole, masked):
        first = made.model.unet.conv_out
        first.register_forward_hook(lambda module, args, out: torch.where(out > out.median(), torch.nan, out))
    with pytest.raises(NonFiniteError, match=r"step 3: the gradient .*view 0"):
        answer(whole, picture())
    if kind != "vsd":  # its second model learns nothing from NaNs
        assert bool(torch.stack([answer(masked, picture())[f"loss_{kind}"]]).isfinite().all())


def test_the_second_models_gradients_stay_with_it(folder: Path):
    made = guidance("vsd", folder)
    out = answer(made, picture())
    out["loss_lora"].backward()
    assert all(p.grad is not None for p in made.parameters())
    assert all(p.grad is None for p in made.model.unet.parameters())
    assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"lora"}
    assert set(made.state_dict()) == {name for name, _ in made.named_parameters()}
    made.zero_grad()
    rgb = picture()
    answer(made, rgb)["loss_vsd"].backward()
    assert rgb.grad is not None and all(p.grad is None or not p.grad.any() for p in made.parameters())


def test_perp_neg_reaches_all_of_them(folder: Path):
    decays = {"sb": (1.0, 0.5, -0.606), "fsb": (1.0, 0.5, 0.967), "fs": (4.0, 0.5, -2.426), "sf": (4.0, 0.5, -2.426)}
    for kind in KINDS:
        made = guidance(kind, folder, **({"enable_sdi": False} if kind == "sdi" else {}))
        torch.manual_seed(1)
        out = made(picture(), prompts(made, use_perp_neg=True, perp_neg_decays=decays), **VIEWS)
        assert out["nfe"] == B * (4 + (2 if kind == "vsd" else 0))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("sds", {"use_img_loss": True}, "`use_img_loss` must be false"),
        ("sds", {"max_items_eval": -1}, "`max_items_eval` must be 4"),
        ("sds", {"weighting_strategy": "pink"}, "`weighting_strategy`"),
        ("sds", {"min_step_percent": -0.1}, "`min_step_percent` must lie between 0 and 1"),
        ("sds", {"image_size": 0}, "`image_size` must be at least 1"),
        ("vsd", {"camera_condition_type": "pose"}, "`camera_condition_type` must be extrinsics or mvp"),
        ("vsd", {"lora_n_timestamp_samples": 0}, "`lora_n_timestamp_samples` must be at least 1"),
        ("sdi", {"inversion_n_steps": 0}, "`inversion_n_steps` must be at least 1"),
        ("sdi", {"inversion_eta": -1.0}, "`inversion_eta` must be at least 0"),
        ("sdi", {"weighting_strategy": "uniform"}, "`weighting_strategy` must be sds"),
        ("sdi", {"n_ddim_steps": 20}, "`n_ddim_steps` must be 50"),
        ("sdi", {"inversion_step": 3}, "did you mean `inversion_n_steps`"),
    ],
)
def test_bad_options_get_one_sentence(kind: str, options: dict, words: str, folder: Path):
    with pytest.raises(UserError) as caught:
        guidance(kind, folder, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_deviations_of_sdi_are_options(folder: Path):
    losses = {
        str(answer(guidance("sdi", folder, **options), picture())["loss_sdi"].item())
        for options in ({}, {"inversion_remap": True}, {"inversion_below_zero": False}, {"inversion_eta": 0.0})
    }
    assert len(losses) == 4


def test_the_inversion_goes_through_evenly_spaced_times_to_one_a_little_above(folder: Path):
    made = guidance("sdi", folder)
    assert made.path(250, 0.0) == [0, 1, 101, 201, 250]
    assert made.path(250, 0.999) == [0, 1, 101, 201, 349]
    assert made.path(980, 0.999) == [0, *range(1, 902, 100), 999]
    assert made.path(1, 0.0) == [0, 1]


def test_a_size_the_model_cannot_take_is_refused_by_its_key(folder: Path):
    with pytest.raises(UserError, match=r"^`image_size` is 17, but the model takes multiples of 2; set it to 16 or 18"):
        guidance("sds", folder, image_size=17)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_several_views_gets_groups_at_one_level_with_their_cameras(kind: str, tmp_path: Path):
    made, seen = guidance(kind, build_multi_view(tmp_path / "model", views=2)), []
    pair = orbit(torch.tensor([20.0, 20.0]), torch.tensor([0.0, 180.0]), 2.0)
    views = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in VIEWS.items() if name != "height"}
    views |= {"c2w": pair.repeat(2, 1, 1), "height": 12}

    def note(module: Any, args: Any, inputs: Any) -> None:
        seen.append((args[1].reshape(-1, 2), inputs["class_labels"].reshape(-1, 2, 16)))

    made.model.unet.register_forward_pre_hook(note, with_kwargs=True)
    rgb = torch.rand(4, 12, 12, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = answer(made, rgb, **views)
    out[f"loss_{kind}"].backward()
    assert rgb.grad is not None and float(rgb.grad.abs().sum()) > 0
    for times, cameras in seen:
        assert torch.equal(times[:, 0], times[:, 1])  # one level for a group
        assert torch.allclose(cameras, camera_numbers(pair).expand_as(cameras), atol=1e-6)
    with pytest.raises(UserError, match="the cameras are no groups of 2 at one elevation, 180° apart"):
        answer(made, rgb, **views | {"c2w": pair[:1].expand(4, -1, -1)})
    perp_neg = prompts(made, use_perp_neg=True)
    with pytest.raises(UserError, match=r"use_perp_neg` is true, but the model sees several views at once"):
        made(rgb, perp_neg, **views)
