"""`pullback-guidance` in threestudio's own pipelines: their YAML files, with two keys changed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

DROP_IN = ("system.guidance_type=pullback-guidance", "system.loss.lambda_pullback=1")
FOUR_STEPS = ("trainer.max_steps=4", "trainer.val_check_interval=2", "checkpoint.every_n_train_steps=1",
              "data.resolution_milestones=[]", "checkpoint.save_top_k=-1")  # fmt: skip
# guidance keys of theirs that mean nothing to a sampler
CONFIGS = {
    "dreamfusion-sd": (),
    "magic3d-coarse-sd": (),
    "sdi": ("enable_sdi", "inversion_guidance_scale", "inversion_n_steps", "inversion_eta", "t_anneal"),
    "prolificdreamer": ("pretrained_model_name_or_path_lora", "sqrt_anneal"),
}


def logged(trial: Path, name: str) -> list[float]:
    with next((trial / "csv_logs").rglob("metrics.csv")).open() as f:
        return [float(row[name]) for row in csv.DictReader(f) if row.get(name)]


@pytest.mark.parametrize("config", CONFIGS)
def test_their_config_runs_with_those_two_changes(config: str, launch: Callable[..., Any], threestudio: Any):
    run = launch(f"configs/{config}.yaml", "--train", *threestudio.small_hash_grid, *DROP_IN, *FOUR_STEPS)
    assert "Annealing 50 noise levels over 4 steps" in run.output
    for key in CONFIGS[config]:
        assert key in run.output.split("pullback-guidance has no use for")[1].splitlines()[0]
    sigmas = logged(run.trial, "train/sigma")
    assert len(sigmas) == 4 and sigmas == sorted(sigmas, reverse=True) and sigmas[0] > sigmas[-1]
    assert len(logged(run.trial, "train/loss_pullback")) == 4
    first = next((run.trial / "ckpts").glob("*step=1.ckpt"))
    before, after = (torch.load(p, weights_only=True)["state_dict"] for p in (first, run.checkpoint))
    assert not any("unet" in key or "vae" in key for key in after)
    moved = [k for k in after if k.startswith("geometry.") and not torch.equal(before[k], after[k])]
    assert moved and all(bool(v.isfinite().all()) for v in after.values())
    assert list((run.trial / "save").glob("it4-test.mp4"))


def test_without_its_weight_the_loss_is_asked_for_in_one_sentence(launch: Callable[..., Any], threestudio: Any):
    run = launch("configs/dreamfusion-sd.yaml", "--train", *threestudio.small_hash_grid, DROP_IN[0], expect=None)
    assert run.returncode != 0
    assert "`system.loss.lambda_pullback` is missing; add it" in run.output


def test_scales_of_score_distillation_are_warned_about(launch: Callable[..., Any], threestudio: Any):
    more = (*threestudio.small_hash_grid, *DROP_IN, "trainer.max_steps=1")
    warning = "a scale for score distillation"
    assert warning in launch("configs/dreamfusion-sd.yaml", "--train", *more).output
    assert warning not in launch("configs/prolificdreamer.yaml", "--train", *more).output
