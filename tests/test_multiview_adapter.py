"""Groups of views through launch.py: the datamodule's cameras, and a small run with a small random model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pullback.adapters.data import multiview
from pullback.adapters.guidance.guidance import PullbackGuidance
from pullback.host import launch
from pullback.host.data import cameras
from pullback.host.embeddings import PromptUtils
from pullback.noise import Shared, Slot
from pullback.views.cameras import orbit
from tiny_pipeline import build, build_multi_view


def module(**options: object) -> multiview.MultiViewDataModule:
    data = multiview.MultiViewDataModule({"height": 3, "width": 4, **options})
    data.setup()
    return data


def test_groups_have_all_keys_of_a_random_cameras_batch():
    random = cameras.RandomCameraDataModule({"batch_size": 8, "height": 3, "width": 4})
    random.setup("fit")
    expected, batch = random.train_dataset.draw(0), module().train_dataset.collate(None)
    assert batch.keys() == expected.keys()
    for key, value in expected.items():
        assert isinstance(value, int) or (batch[key].shape, batch[key].dtype) == (value.shape, value.dtype), key


@pytest.mark.parametrize("n_view", [2, 4, 8])
def test_a_group_stands_evenly_round_at_one_elevation_and_distance(n_view: int):
    data = module(n_view=n_view, elevation_range=[-10, 45], fovy_range=[20, 50], zoom_range=[0.5, 1.0])
    for _ in range(5):
        batch = data.train_dataset.collate(None)
        for key in ("elevation", "camera_distances", "fovy"):
            rows = batch[key].reshape(-1, n_view)
            assert torch.equal(rows, rows[:, :1].expand_as(rows)), key
        assert torch.allclose(batch["azimuth"].reshape(-1, n_view).diff(dim=1), torch.tensor(360.0 / n_view), atol=1e-4)
        assert bool(((batch["elevation"] >= -10) & (batch["elevation"] <= 45)).all())
        pose = orbit(batch["elevation"], batch["azimuth"], batch["camera_distances"])
        assert torch.allclose(batch["c2w"], pose, atol=1e-6)


def test_a_relative_radius_shows_as_much_with_every_angle_of_view():
    batch = module(fovy_range=[15, 60], camera_distance_range=[0.9, 0.9]).train_dataset.collate(None)
    seen = batch["camera_distances"] * torch.tan(batch["fovy"] / 2)  # half the height at the origin
    assert torch.allclose(seen, torch.full((8,), 0.9), atol=1e-5) and batch["fovy"].std() > 0
    plain = module(relative_radius=False, camera_distance_range=[2, 2]).train_dataset.collate(None)
    assert torch.equal(plain["camera_distances"], torch.full((8,), 2.0))


def test_the_cameras_of_a_step_depend_on_seed_and_step_alone():
    torch.manual_seed(5)
    one, other = module().train_dataset, module().train_dataset
    one.collate(None)
    assert torch.equal(one.collate(None)["c2w"], other.draw(1)["c2w"])
    torch.manual_seed(6)
    assert not torch.equal(module().train_dataset.draw(1)["c2w"], other.draw(1)["c2w"])


def test_the_turntable_goes_round_at_the_eval_camera():
    view = module(n_test_views=8, eval_elevation_deg=20.0, eval_camera_distance=2.0).test_dataset.collate([2])
    assert torch.allclose(view["c2w"], orbit(torch.tensor([20.0]), torch.tensor([90.0]), 2.0), atol=1e-6)
    assert view["rays_d"].shape == (1, 512, 512, 3) and view["index"].tolist() == [2]


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"batch_size": 6}, r"batch_size.*must be a multiple of n_view \(4\), not 6"),
        ({"n_view": 0}, r"n_view.*at least 1"),
        ({"elevation_range": [50, 10]}, r"elevation_range.*must be \[low, high\] with low ≤ high within -90 and 90"),
        ({"fovy_range": [100, 150], "zoom_range": [1, 1.5]}, r"fovy_range.*must stay below 180 after zoom_range"),
        ({"camera_distance_range": [0, 1]}, r"camera_distance_range.*must be above 0, not 0"),
    ],
)
def test_bad_values_are_refused(options: dict[str, object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        module(**options)


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    from test_system import SMALL as TINY

    return [
        "--config", "configs/pullback-nerf-mvdream.yaml", "--train", f"exp_root_dir={out}", "tag=t",
        f"system.prompt_processor.pretrained_model_name_or_path={model}", "system.prompt_processor.prompt=a red cube",
        *(line for line in TINY if not line.startswith(("data.batch_size", "system.geometry.grid_size"))),
        "system.geometry.pos_encoding_config.log2_hashmap_size=8", "system.geometry.pos_encoding_config.n_levels=2",
        "system.guidance.half_precision_weights=false", *more,
    ]  # fmt: skip


def test_a_run_samples_groups_of_views(tmp_path: Path):
    build_multi_view(tmp_path / "model")
    assert launch.main(arguments(tmp_path / "model", tmp_path, "system.guidance.noise=null")) == 0
    state = torch.load(tmp_path / "pullback-nerf-mvdream" / "t" / "ckpts" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3 and state["pullback"]["nfe"] == 3 * 8 * 2  # every view, with guidance and without
    assert state["pullback"]["noise"].shape == (4, 4, 8, 8)  # slot noise, which a model of several views has by default


def test_cameras_that_are_no_groups_end_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    build_multi_view(tmp_path / "model")
    assert launch.main(arguments(tmp_path / "model", tmp_path, "data.n_view=2")) == 2
    error = capfd.readouterr().err
    assert (
        "the cameras are no groups of 4 at one elevation, 90° apart; take `data_type: pullback-multiview-data" in error
    )


def test_a_model_of_single_views_takes_slot_noise_too(tmp_path: Path):
    build(tmp_path / "model")
    assert launch.main(arguments(tmp_path / "model", tmp_path, "system.guidance.levels=1")) == 0
    state = torch.load(tmp_path / "pullback-nerf-mvdream" / "t" / "ckpts" / "last.ckpt", weights_only=True)
    assert state["pullback"]["noise"].shape[0] == Slot().group


def test_the_drop_in_takes_groups_too(tmp_path: Path):
    build_multi_view(tmp_path / "model")
    made = PullbackGuidance({"pretrained_model_name_or_path": str(tmp_path / "model"), "guidance_scale": 2.0})
    assert made.coupling() == Slot(4)
    named = {"pretrained_model_name_or_path": str(tmp_path / "model"), "noise": "shared"}
    assert PullbackGuidance(named).coupling() == Shared()
    texts = made.model.encode_prompt(["a red cube", "a ball"])
    one, other = texts[:1], texts[1:]
    prompt = PromptUtils("a red cube", [], one, other, one.expand(4, -1, -1), other.expand(4, -1, -1), 45.0, 45.0, 60.0)
    batch = module(batch_size=4).train_dataset.collate(None)
    rgb = torch.rand(4, 16, 16, 3, requires_grad=True)
    made(rgb, prompt, **batch)["loss_pullback"].backward()
    assert rgb.grad is not None and bool((rgb.grad.abs().sum((1, 2, 3)) > 0).all())
