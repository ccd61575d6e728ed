from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pullback.errors import UserError
from pullback.host.config import load_config
from pullback.host.data.cameras import RandomCameras, TurntableCameras
from pullback.host.registry import find
from pullback.views.cameras import camera_batch, camera_rays, look_at, on_sphere, orbit

STILL = {"camera_perturb": 0.0, "center_perturb": 0.0, "up_perturb": 0.0}


def data(**cfg) -> Any:
    module = find("random-camera-datamodule")(cfg)
    module.setup()
    return module


def cameras(**cfg) -> RandomCameras:
    torch.manual_seed(0)
    return data(**cfg).train_dataset


def test_mixed_precision_leaves_cameras_alone():
    c2w, fovy = orbit(torch.tensor([15.0]), torch.tensor([40.0])), torch.tensor([0.7])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = camera_batch(c2w, fovy, 5, 4)
    whole = camera_batch(c2w, fovy, 5, 4)
    assert all(torch.equal(mixed[key], whole[key]) for key in whole)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_a_projected_point_lands_on_the_pixel_whose_ray_passes_through_it(batch_size):
    batch = cameras(batch_size=batch_size, height=6, width=10).draw(0)
    assert batch["rays_d"].shape == (batch_size, 6, 10, 3)
    torch.testing.assert_close(batch["rays_d"].norm(dim=-1), torch.ones(batch_size, 6, 10))
    points = batch["rays_o"] + 1.7 * batch["rays_d"]
    clip = torch.einsum("bij,bhwj->bhwi", batch["mvp_mtx"], F.pad(points, (0, 1), value=1.0))
    x, y = (clip[..., :2] / clip[..., 3:]).unbind(-1)
    assert (clip[..., 3] > 0).all()
    torch.testing.assert_close((x + 1) / 2 * 10 - 0.5, torch.arange(10.0).expand_as(x), atol=1e-4, rtol=0)
    torch.testing.assert_close((y + 1) / 2 * 6 - 0.5, torch.arange(6.0)[:, None].expand_as(y), atol=1e-4, rtol=0)


def test_azimuth_0_looks_from_plus_x_and_90_from_plus_y_with_the_world_upright():
    dataset = TurntableCameras(data(eval_elevation_deg=0.0, eval_camera_distance=2.0, **STILL).cfg, 4)
    positions = dataset.c2w[:, :3, 3]
    expected = 2 * torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    torch.testing.assert_close(positions, expected, atol=1e-6, rtol=0)
    _, rays = camera_rays(dataset.c2w, torch.full((4,), 0.8), 5, 5)
    torch.testing.assert_close(rays[:, 2, 2], -expected / 2, atol=1e-6, rtol=0)  # the middle pixel sees the origin
    assert (rays[:, 0, :, 2] > 0).all() and (rays[:, 4, :, 2] < 0).all()  # first row up, last row down
    assert rays[0, 2, 4, 1] > 0  # from +x with z up, +y is on the right


def test_poses_are_rotations_also_straight_from_above():
    elevation, azimuth = torch.tensor([90.0, -90.0, 30.0]), torch.tensor([0.0, 50.0, -120.0])
    position = on_sphere(elevation, azimuth, torch.tensor([1.0, 2.0, 3.0]))
    turn = look_at(position, torch.zeros(3, 3), torch.tensor([0.0, 0.0, 1.0]))[:, :3, :3]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(3))


def test_field_of_view_is_the_angle_between_the_top_and_bottom_edges():
    fovy = torch.tensor([0.9])
    _, rays = camera_rays(torch.eye(4)[None], fovy, 1000, 2, normalize=False)
    torch.testing.assert_close(rays[..., 2], -torch.ones(1, 1000, 2))
    half_pixel = math.tan(0.45) / 1000
    torch.testing.assert_close(rays[0, 0, 0, 1], torch.tensor(math.tan(0.45) - half_pixel))


def test_ranges_hold_and_stratified_azimuths_cover_the_circle():
    source = cameras(
        batch_size=6,
        elevation_range=[-10, 45],
        camera_distance_range=[1.5, 2.0],
        fovy_range=[40, 70],
        **STILL,
    )
    for step in range(40):
        batch = source.draw(step)
        sector = ((batch["azimuth"] + 180) / 60).floor()
        assert sector.tolist() == [0, 1, 2, 3, 4, 5]
        assert ((batch["elevation"] >= -10 - 1e-3) & (batch["elevation"] <= 45 + 1e-3)).all()
        assert ((batch["camera_distances"] >= 1.5) & (batch["camera_distances"] <= 2.0)).all()
        assert ((batch["fovy"] >= math.radians(40)) & (batch["fovy"] <= math.radians(70))).all()
        position = on_sphere(batch["elevation"], batch["azimuth"], batch["camera_distances"])
        torch.testing.assert_close(batch["camera_positions"], position)
        assert (batch["light_positions"].norm(dim=-1) - 1.15).abs().max() <= 0.35 + 1e-5


def test_elevations_are_drawn_uniformly_in_angle_or_on_the_sphere_half_the_time_each():
    source = cameras(batch_size=512, height=1, width=1, elevation_range=[-90, 90], **STILL)
    means = torch.stack([torch.deg2rad(source.draw(k)["elevation"]).sin().square().mean() for k in range(40)])
    # E sin² is 1/2 uniformly in angle and 1/3 on the sphere
    near_half, near_third = (means - 1 / 2).abs() < 0.07, (means - 1 / 3).abs() < 0.07
    assert (near_half | near_third).all()
    assert 8 <= int(near_half.sum()) <= 32


def test_magic3d_lights_stand_within_60_degrees_of_the_camera():
    source = cameras(batch_size=64, height=1, width=1, light_sample_strategy="magic3d", **STILL)
    batch = source.draw(0)
    cos = F.cosine_similarity(batch["light_positions"], batch["camera_positions"])
    assert (cos >= 0.5 - 1e-5).all() and cos.min() < 0.7


def test_dreamfusion_lights_without_scatter_shine_from_the_camera():
    batch = cameras(batch_size=4, light_position_perturb=0.0, **STILL).draw(3)
    towards = F.normalize(batch["camera_positions"], dim=-1)
    torch.testing.assert_close(F.normalize(batch["light_positions"], dim=-1), towards)


def test_cameras_are_a_function_of_seed_and_step():
    first, second = cameras(batch_size=2), cameras(batch_size=2)
    drawn = [first.collate(None) for _ in range(4)]
    torch.rand(100)  # what else is drawn plays no part
    second.step = 2
    for batch in drawn[2:]:
        again = second.collate(None)
        assert all(torch.equal(batch[k], again[k]) for k in batch if torch.is_tensor(batch[k]))
    assert not torch.equal(drawn[0]["c2w"], drawn[1]["c2w"])
    torch.manual_seed(1)
    other = data(batch_size=2).train_dataset
    assert not torch.equal(other.draw(0)["c2w"], drawn[0]["c2w"])


def test_resolution_changes_at_its_milestones():
    source = cameras(height=[4, 8, 16], width=[4, 8, 8], batch_size=[3, 2, 1], resolution_milestones=[2, 5])
    shapes = {step: tuple(source.draw(step)["rays_o"].shape[:3]) for step in (0, 1, 2, 4, 5, 99)}
    first, second, third = (3, 4, 4), (2, 8, 8), (1, 16, 8)
    assert shapes == {0: first, 1: first, 2: second, 4: second, 5: third, 99: third}


def test_progressive_views_widen_from_the_evaluation_camera():
    source = cameras(batch_size=256, height=1, width=1, progressive_until=99, eval_elevation_deg=20.0, **STILL)
    spread = [source.draw(step)["azimuth"].abs().max() for step in (0, 50, 100)]
    assert spread[0] == 0 and 80 < spread[1] <= 90.1 and 170 < spread[2] <= 180.1
    torch.testing.assert_close(source.draw(0)["elevation"], torch.full((256,), 20.0))


@pytest.mark.parametrize("n", [1, 3, 8])
def test_turntable_goes_round_once_without_repeating_the_first_view(n):
    module = data(n_test_views=n, eval_height=4, eval_width=6)
    batches = list(module.test_dataloader())
    assert [b["index"].item() for b in batches] == list(range(n))
    torch.testing.assert_close(torch.cat([b["azimuth"] for b in batches]), torch.arange(n) * 360 / n)
    assert all(b["rays_o"].shape == (1, 4, 6, 3) and (b["height"], b["width"]) == (4, 6) for b in batches)
    train = set(module.train_dataset.draw(0))
    assert set(batches[0]) == train | {"index"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("n_test_views=0", ["data.n_test_views", "at least 1"]),
        ("n_val_views=0", ["data.n_val_views", "at least 1"]),
        ("batch_size=0", ["data.batch_size", "at least 1"]),
        ("height=[8,0]", ["data.height", "at least 1"]),
        ("height=[8,16]", ["data.height", "resolution_milestones"]),
        ("elevation_range=[45,-10]", ["data.elevation_range", "low"]),
        ("elevation_range=[0,100]", ["data.elevation_range", "90"]),
        ("camera_distance_range=[0,0]", ["data.camera_distance_range", "above 0"]),
        ("fovy_range=[70,40]", ["data.fovy_range"]),
        ("light_sample_strategy=sun", ["data.light_sample_strategy", "dreamfusion"]),
    ],
)
def test_bad_values_name_the_config_path(override, words):
    text = "{data_type: random-camera-datamodule, data: {n_val_views: 2}}"
    cfg = load_config(text, from_string=True, cli_args=[f"data.{override}"])
    with pytest.raises(UserError) as e:
        find("random-camera-datamodule")(cfg.data)
    assert all(word in str(e.value) for word in words), e.value
