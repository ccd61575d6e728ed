"""The real framework on a CPU: threestudio's own pipelines, and our own, from start to end."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning
import torch
from conftest import Run, Threestudio
from packaging.version import Version

SDS = "configs/dreamfusion-sd.yaml"
TEXTMESH = "configs/textmesh-if.yaml"


def pictures(run: Run, step: int) -> list[Path]:
    return sorted((run.trial / "save" / f"it{step}-test").glob("*.png"))


def column(run: Run, name: str) -> list[float]:
    """A column of the run's last metrics.csv."""
    table = sorted(run.trial.glob("csv_logs/version_*/metrics.csv"))[-1]
    with open(table) as f:
        return [float(row[name]) for row in csv.DictReader(f) if row.get(name)]


def test_an_sds_run_resumes_validates_tests_and_exports(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    keep = (*threestudio.small_hash_grid, "checkpoint.every_n_train_steps=1", "system.renderer.num_samples_per_ray=32")
    run = launch(SDS, "--train", *keep, "trainer.max_steps=1")
    for what in ("tinycudann", "nvdiffrast", "envlight", "nerfacc's", "get_device()", "Trainer"):
        assert run.output.count(f"stand-in for {what}") == 1
    first = torch.load(run.checkpoint, weights_only=True)
    assert first["global_step"] == 1 and len(pictures(run, 1)) == 2

    resume = f"resume={run.checkpoint}"
    run = launch(SDS, "--train", *keep, resume)
    second = torch.load(run.checkpoint, weights_only=True)
    assert second["global_step"] == 2 and len(pictures(run, 2)) == 2
    table = "geometry.encoding.encoding.encoding.params"
    moved = (second["state_dict"][table] - first["state_dict"][table]).abs()
    assert 0 < float(moved.max()) < 0.1  # Adam's step at lr 0.01, from where the first run ended

    launch(SDS, "--validate", *keep, resume)
    assert (run.trial / "save" / "it2-0.png").is_file()
    for picture in pictures(run, 2):
        picture.unlink()
    launch(SDS, "--test", *keep, resume)
    assert len(pictures(run, 2)) == 2

    surface = ("isosurface_method=mc-cpu", "isosurface_resolution=16", "isosurface_threshold=1.")
    export = (*keep, resume, *(f"system.geometry.{option}" for option in surface))
    launch(SDS, "--export", *export, "system.exporter.save_texture=false", "system.exporter.save_uv=false")
    mesh = (run.trial / "save" / "it2-export" / "model.obj").read_text()
    assert mesh.count("\nv ") > 50 and mesh.count("\nf ") > 50
    launch(SDS, "--export", *export, "system.exporter.texture_size=64")
    assert (run.trial / "save" / "it2-export" / "texture_kd.jpg").is_file()


def test_the_prompt_processors_child_process_finds_the_stand_ins(
    launch: Callable[..., Run], threestudio: Threestudio
) -> None:
    cache = threestudio.root / ".threestudio_cache" / "text_embeddings"
    before = set(cache.glob("*.pt"))
    spawn = ("system.prompt_processor.spawn=true", "system.prompt_processor.prompt=a green torus")
    launch(SDS, "--train", *threestudio.small_hash_grid, *spawn, "trainer.max_steps=1")
    assert len(set(cache.glob("*.pt")) - before) >= 4  # the prompt seen from the side, front, back and above


def test_half_precision_is_single_precision_here(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    half = ("trainer.precision=16-mixed", "system.guidance.half_precision_weights=true")
    run = launch(SDS, "--train", *threestudio.small_hash_grid, *half, "trainer.max_steps=1")
    assert "stand-in for trainer.precision 16-mixed" in run.output


PROPOSAL = (
    "estimator=proposal", "num_samples_per_ray_proposal=16", "near_plane=0.1", "far_plane=4.0",
    "proposal_network_config.n_input_dims=3", "proposal_network_config.n_output_dims=1",
    "proposal_network_config.encoding_config.otype=HashGrid",
    "proposal_network_config.encoding_config.n_levels=2",
    "proposal_network_config.encoding_config.log2_hashmap_size=8",
    "proposal_network_config.network_config.otype=FullyFusedMLP",
    "prop_optimizer_config.name=Adam", "prop_optimizer_config.args.lr=0.01",
)  # fmt: skip
IMPORTANCE = ("estimator=importance", "num_samples_per_ray_importance=16", "near_plane=0.1", "far_plane=4.0")
importance = pytest.param(
    IMPORTANCE,
    id="importance",
    marks=pytest.mark.skipif(
        Version(pytorch_lightning.__version__) >= Version("2.2"),
        reason="threestudio's importance estimator needs a call of train(), which Lightning makes no more since 2.2",
    ),
)


@pytest.mark.parametrize("options", [importance, pytest.param(PROPOSAL, id="proposal")])
def test_estimators_other_than_the_occupancy_grid(
    options: tuple[str, ...], launch: Callable[..., Run], threestudio: Threestudio
) -> None:
    run = launch(SDS, "--train", *threestudio.small_hash_grid, *(f"system.renderer.{o}" for o in options))
    assert len(pictures(run, 2)) == 2
    assert all(torch.isfinite(torch.tensor(column(run, "train/loss_sds"))))


def test_a_signed_distance_field_with_neus(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    stable_diffusion = (
        "system.prompt_processor_type=stable-diffusion-prompt-processor",
        "system.guidance_type=stable-diffusion-guidance",
    )
    run = launch(TEXTMESH, "--train", *threestudio.small_hash_grid, *stable_diffusion)
    assert len(pictures(run, 2)) == 2
    eikonal = column(run, "train/loss_eikonal")
    assert eikonal and all(0 <= value < 10 for value in eikonal)


def test_our_own_config_runs_there_to_its_last_level(launch: Callable[..., Run]) -> None:
    config = "custom/threestudio-pullback/configs/pullback-nerf-tiny.yaml"
    short = ("system.guidance.levels=3", "system.guidance.fit_steps=2", "trainer.max_steps=-1")
    run = launch(config, "--train", *short, "checkpoint.every_n_train_steps=1")
    assert torch.load(run.checkpoint, weights_only=True)["pullback"]
    assert column(run, "sigma")[-1] < column(run, "sigma")[0]
    page = (run.trial / "page.html").read_text(encoding="utf-8")  # as in the bundled host
    assert "<h1>a red cube</h1>" in page and "data:video/mp4" in page
    assert "--threestudio" in page and "prompt=a red cube&#39;" in page  # the command, with its quotes
