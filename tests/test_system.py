"""`pullback-system` in the host: pullback-nerf-tiny.yaml, end to end, with a small random model."""

from __future__ import annotations

import csv
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pullback
import pytest
import torch
from checkpoints import same
from pullback.host import config, launch, parts
from tiny_pipeline import build

CONFIG = "configs/pullback-nerf-tiny.yaml"
# 3 levels × 2 cycles = 6 visits of two views, in seconds
SMALL = [
    "data.batch_size=2", "data.width=16", "data.height=16", "data.n_val_views=2", "data.n_test_views=2",
    "data.eval_width=16", "data.eval_height=16", "system.geometry.grid_size=[16,16,16]",
    "system.geometry.isosurface_resolution=16", "system.renderer.num_samples_per_ray=16",
    "system.guidance.levels=3", "system.guidance.cycles=2", "system.guidance.fit_steps=3",
    "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5", "trainer.val_check_interval=2",
    "checkpoint.every_n_train_steps=1", "use_timestamp=false", "tag=t",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    return [
        "--config", CONFIG, "--train", f"exp_root_dir={out}", "system.prompt_processor.prompt=a red cube",
        f"system.prompt_processor.pretrained_model_name_or_path={model}", *SMALL, *more,
    ]  # fmt: skip


def folder(out: Path) -> Path:
    return out / "pullback-nerf-tiny" / "t"


def checkpoint(out: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder(out) / "ckpts" / name, weights_only=True)


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert launch.main(arguments(model, out)) == 0
    return out


def test_one_step_is_one_visit_and_the_run_ends_after_the_last_level(trained: Path):
    state = checkpoint(trained)
    assert state["global_step"] == 6
    assert (state["pullback"]["level"], state["pullback"]["cycle"]) == (3, 0)
    # six visits of two views, each a guided call of two
    assert state["pullback"]["nfe"] == 6 * 2 * 2
    assert not any("unet" in key or "vae" in key for key in state["state_dict"])
    with next((folder(trained) / "csv_logs").rglob("metrics.csv")).open() as f:
        rows = [r for r in csv.DictReader(f) if r.get("sigma")]
    assert [(float(r["level"]), float(r["cycle"])) for r in rows] == [(i, c) for i in range(3) for c in range(2)]
    sigmas = [float(r["sigma"]) for r in rows]
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[-1] == pytest.approx(0.5)


def test_pictures_logs_and_the_turntable_are_there(trained: Path):
    saved = folder(trained) / "save"
    assert len(list(saved.glob("it*-val.png"))) == 3
    assert (saved / "it6-grid.png").stat().st_size > 0
    assert (saved / "it6-test.mp4").stat().st_size > 0
    assert list((folder(trained) / "tb_logs").rglob("events*"))


def test_the_parameters_moved_and_the_log_says_by_how_much_it_fits(trained: Path):
    first, last = checkpoint(trained, "epoch=0-step=1.ckpt"), checkpoint(trained)
    assert not torch.equal(first["state_dict"]["geometry.grid"], last["state_dict"]["geometry.grid"])


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_run_resumed_from_any_visit_ends_bit_for_bit_the_same(step: int, model: Path, trained: Path, tmp_path: Path):
    resume = folder(trained) / "ckpts" / f"epoch=0-step={step}.ckpt"
    assert launch.main(arguments(model, tmp_path, f"resume={resume}")) == 0
    a, b = checkpoint(trained), checkpoint(tmp_path)
    for key in ("state_dict", "pullback", "optimizer_states"):
        assert same(a[key], b[key]), key


def test_sigterm_in_the_middle_then_the_printed_command(
    model: Path, trained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    # tests/test_host_launch.py has it from outside of a process
    visit = pullback.Sampler.visit

    def interrupted(self: Any, state: Any, *more: Any) -> Any:
        if (state.level, state.cycle) == (1, 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return visit(self, state, *more)

    monkeypatch.setattr(pullback.Sampler, "visit", interrupted)
    assert launch.main(arguments(model, tmp_path)) == 143
    monkeypatch.undo()
    assert checkpoint(tmp_path)["global_step"] == 3
    command = shlex.split(next(row for row in capsys.readouterr().out.splitlines() if "resume=" in row))
    assert launch.main(command[command.index("--config") :]) == 0
    assert same(checkpoint(trained)["state_dict"], checkpoint(tmp_path)["state_dict"])


def test_a_nan_names_level_and_view_and_leaves_the_last_good_state(
    model: Path, trained: Path, tmp_path: Path, capsys, monkeypatch
):
    from pullback.models import DiffusionModel

    whole, calls = DiffusionModel.predict_x0, []

    def breaks_in_the_fourth_call(self, noisy, sigma, text):
        calls.append(sigma)
        x0 = whole(self, noisy, sigma, text)
        if len(calls) == 4:
            x0[1] = float("nan")
        return x0

    monkeypatch.setattr(DiffusionModel, "predict_x0", breaks_in_the_fourth_call)
    assert launch.main(arguments(model, tmp_path)) == 1
    error = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error")]
    assert len(error) == 1 and "level 1, cycle 1" in error[0] and "view 1" in error[0]
    good = checkpoint(trained, "epoch=0-step=3.ckpt")
    assert same(checkpoint(tmp_path)["state_dict"], good["state_dict"])
    assert same(checkpoint(tmp_path)["pullback"], good["pullback"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("system.guidance.sigma_max=100", ["`system.guidance.sigma_max`", "outside the model's range"]),
        ("system.guidance.sigma_max=0.4", ["`system.guidance.sigma_min`", "below"]),
        ("system.guidance.levels=0", ["system.guidance", "levels", "at least 1"]),
        ("system.guidance.noise=shard", ["system.guidance", "noise", "shared"]),
        ("system.guidance.cycels=2", ["system.guidance.cycels", "cycles"]),
        ("system.guidance.order=3", ["system.guidance", "order", "1, 2"]),
        ("system.prompt_processor.prompt=", ["system.prompt_processor.prompt"]),
        ("system.guidance.pretrained_model_name_or_path=/nowhere/model", ["system.guidance.pretrained", "/nowhere"]),
        ("system.guidance.pretrained_model_name_or_path=tests", ["system.guidance.pretrained", "diffusers"]),
        ("data.batch_size=0", ["data", "batch_size", "at least 1"]),
        ("system.guidance.noise={type: surface, radus: 1}", ["`system.guidance.noise`", "no option 'radus'", "radius"]),
        ("system.guidance.noise={type: surface, radius: -1}", ["`system.guidance.noise`", "radius above 0"]),
        ("system.guidance.constraint={type: repaint, cycles: 0}", ["`system.guidance.constraint`", "at least 1 cycle"]),
    ],
)
def test_bad_values_get_one_sentence(override: str, words: list[str], model: Path, tmp_path: Path, capsys):
    assert launch.main(arguments(model, tmp_path, override)) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "Traceback" not in error[0]
    assert all(word in error[0] for word in words), error[0]


PROMPTS = ["{a: cube}", "a cube: red", "a [red] cube", "a cube # red", "- a cube", "yes", "7"]


def test_prompts_with_yaml_characters_are_taken_as_they_are(model: Path, tmp_path: Path):
    parts.load_parts()
    for prompt in PROMPTS:
        cfg = config.load_config(CONFIG, cli_args=[f"system.prompt_processor.prompt={prompt}"])
        assert cfg.system.prompt_processor.prompt == prompt
    prompt = PROMPTS[0]
    more = f"system.prompt_processor.prompt={prompt}", "trainer.max_steps=1"
    assert launch.main(arguments(model, tmp_path, *more)) == 0
    assert f"prompt: {prompt}" in (folder(tmp_path) / "configs" / "parsed.yaml").read_text().replace("'", "")


def test_latent_fit_and_resized_renders_run(model: Path, tmp_path: Path):
    more = ["system.guidance.fit_space=latent", "data.width=12", "data.height=12", "trainer.max_steps=1"]
    assert launch.main(arguments(model, tmp_path, *more)) == 0
    assert checkpoint(tmp_path)["global_step"] == 1


def test_a_run_whose_views_disagree_starts_again_and_resumes_bit_for_bit(model: Path, tmp_path: Path):
    """A random model never agrees with itself; by a threshold of ours each try but the last is followed by another."""
    again = (
        "system.guidance.tries=3", "system.guidance.noise=surface", "system.guidance.restart_sigma=8",
        "system.guidance.restart_limit=1e-6",
    )  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert launch.main(arguments(model, whole, *again)) == 0
    end = checkpoint(whole)
    # two cycles at each of three levels, then twice the levels at or below sigma 8
    assert end["pullback"]["attempt"] == 2
    again_levels = sum(s <= 8 for s in end["pullback"]["sigmas"][:-1])
    assert end["global_step"] == 2 * (3 + 2 * again_levels) and end["pullback"]["level"] == 3
    step = 2 * 3 + 1  # in the second try
    resume = folder(whole) / "ckpts" / f"epoch=0-step={step}.ckpt"
    assert launch.main(arguments(model, parts, *again, f"resume={resume}")) == 0
    for key in ("state_dict", "pullback", "optimizer_states", "global_step"):
        assert same(end[key], checkpoint(parts)[key]), key


def test_adaptive_guidance_and_multistep_resume_bit_for_bit(model: Path, tmp_path: Path):
    """A random model agrees with itself at once, so that guidance ends after the first visit."""
    more = (
        "system.guidance.order=multistep", "system.guidance.constraint=none", "system.guidance.noise=shared",
        "system.guidance.guidance_policy={type: adaptive, threshold: 0.5}",
    )  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert launch.main(arguments(model, whole, *more)) == 0
    end, middle = checkpoint(whole), checkpoint(whole, "epoch=0-step=2.ckpt")
    assert end["pullback"]["nfe"] == 2 * 2 + 2 + 2
    assert end["pullback"]["denoiser"] == end["pullback"]["sigmas"][0] and len(middle["pullback"]["past"]) == 2
    resume = folder(whole) / "ckpts" / "epoch=0-step=2.ckpt"
    assert launch.main(arguments(model, parts, *more, f"resume={resume}")) == 0
    for key in ("state_dict", "pullback", "optimizer_states", "global_step"):
        assert same(end[key], checkpoint(parts)[key]), key


def test_noise_and_constraint_take_options(model: Path, tmp_path: Path):
    options = [
        "system.guidance.noise={type: surface, radius: 0.3}", "system.guidance.constraint={type: repaint, cycles: 1}",
    ]  # fmt: skip
    assert launch.main(arguments(model, tmp_path, *options)) == 0
    end = checkpoint(tmp_path)
    assert end["global_step"] == 3 and end["pullback"]["cycles"] == 1
    assert end["pullback"]["noise"].shape[-1] == 8 * 8 + pullback.noise.Surface().points


def test_the_check_at_the_end_sees_cameras_that_no_step_has_had(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from pullback.models import GuidedDenoiser

    whole, calls = GuidedDenoiser.__call__, []

    def recorded(self: Any, noisy: torch.Tensor, sigma: Any, views: Any) -> torch.Tensor:
        calls.append((views["azimuth"], views["elevation"], views["c2w"]))
        return whole(self, noisy, sigma, views)

    monkeypatch.setattr(GuidedDenoiser, "__call__", recorded)
    assert launch.main(arguments(model, tmp_path)) == 0
    visits, check = calls[:6], calls[6:]
    assert len(check) == 2 and torch.equal(check[0][2], check[1][2])  # the answer, and the model's own floor
    azimuth, elevation, c2w = check[0]
    assert not any(torch.isin(azimuth, seen).any() for seen, _, _ in visits)
    assert c2w.shape == visits[0][2].shape and bool((elevation >= 0).all() and (elevation <= 60).all())
