from __future__ import annotations

import math

import pullback.host.scene.background
import pullback.host.scene.implicit_volume
import pullback.host.scene.material
import pullback.host.scene.volume_grid  # noqa: F401
import pytest
import torch
import torch.nn.functional as F
from pullback.errors import UserError
from pullback.host.config import load_config, parse_structured
from pullback.host.data.cameras import RandomCameras
from pullback.host.registry import find
from pullback.host.scene.renderer import NeRFVolumeRenderer
from pullback.render.samples import ray_box

FACT = {"grid_prune": False, "num_samples_per_ray": 64}


def scene(geometry=None, material=None, background=None, kind="volume-grid", lit=False, **cfg):
    """A renderer of a volume grid whose density is the bias, unless told otherwise."""
    torch.manual_seed(0)
    geometry = {"density_bias": 0.7, **(geometry or {})}
    constant = isinstance(geometry["density_bias"], float)
    geometry.setdefault("density_activation", "none" if constant else "softplus")
    if kind == "volume-grid":
        geometry = {"grid_size": [8, 8, 8], **geometry}
    name = "diffuse-with-point-light-material" if lit else "no-material"
    return NeRFVolumeRenderer(
        {**FACT, **cfg},
        geometry=find(kind)(geometry),
        material=find(name)(material or {}),
        background=find("solid-color-background")(background or {}),
    )


def mode(renderer: NeRFVolumeRenderer, training: bool) -> NeRFVolumeRenderer:
    """Training or evaluation for the renderer and what it draws, whose albedo-only steps are over."""
    renderer.train(training)
    for part in (renderer.geometry, renderer.material, renderer.background):
        part.train(training)
    renderer.material.update_step(0, 5000)
    return renderer


def batch(n: int = 2, size: int = 6, **cfg):
    torch.manual_seed(0)
    config = find("random-camera-datamodule").Config
    cfg = {"batch_size": n, "height": size, "width": size, "camera_distance_range": [2.0, 2.5], **cfg}
    return RandomCameras(parse_structured(config, cfg)).draw(0)


def test_rays_enter_and_leave_the_box_where_they_should():
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    origins = torch.tensor([[-3.0, 0, 0], [0, 0, 0], [-3, 2, 0], [-3, -3, 0], [0.9, -4, 0.5]])
    directions = F.normalize(torch.tensor([[1.0, 0, 0], [0, 0, -1], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), dim=-1)
    entry, leave = ray_box(origins, directions, box, 0.0, 1e10)
    assert leave[2] <= entry[2]
    hit = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(entry[hit], torch.tensor([2.0, 0, 2 * math.sqrt(2), 3]))
    torch.testing.assert_close(leave[hit], torch.tensor([4.0, 1, 4 * math.sqrt(2), 5]))
    entry, leave = ray_box(origins, directions, box, 2.5, 3.5)
    torch.testing.assert_close((entry[0], leave[0]), (torch.tensor(2.5), torch.tensor(3.5)))


def on(renderer: NeRFVolumeRenderer, device: torch.device) -> NeRFVolumeRenderer:
    """The renderer and what it draws, on a device."""
    for part in (renderer, renderer.geometry, renderer.material, renderer.background):
        part.to(device)
    return renderer


@pytest.mark.parametrize("training", [False, True])
def test_a_box_of_constant_density_has_the_closed_form_opacity_depth_and_spread(training, device):
    sigma, length = 0.7, 2.0
    renderer = on(scene(num_samples_per_ray=512, background={"color": [0.2, 0.4, 0.6]}), device).train(training)
    rays_o = torch.tensor([-3.0, 0.1, -0.2], device=device).expand(1, 1, 400, 3)
    rays_d = torch.tensor([1.0, 0.0, 0.0], device=device).expand(1, 1, 400, 3)
    out = {key: value.cpu() for key, value in renderer(rays_o, rays_d, torch.zeros(1, 3, device=device)).items()}
    opacity = 1 - math.exp(-sigma * length)
    torch.testing.assert_close(out["opacity"], torch.full((1, 1, 400, 1), opacity))
    # entering at t = 2: ∫ (2 + s) σ e^{−σs} ds
    mean = (1 - math.exp(-sigma * length) * (1 + sigma * length)) / sigma
    torch.testing.assert_close(out["depth"].mean().item(), 2 * opacity + mean, atol=1e-3, rtol=0)
    square = 2 * mean / sigma - length**2 * math.exp(-sigma * length)
    spread = square / opacity - (mean / opacity) ** 2
    torch.testing.assert_close(out["z_variance"].mean().item(), spread, atol=2e-3, rtol=0)
    torch.testing.assert_close(out["comp_rgb_fg"], torch.full((1, 1, 400, 3), 0.5 * opacity))
    expected = 0.5 * opacity + (1 - opacity) * torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(out["comp_rgb"], expected.expand(1, 1, 400, 3))


def test_samples_stay_in_their_intervals_and_are_spread_uniformly_when_randomized():
    origins, directions = torch.tensor([[-3.0, 0, 0]]).expand(500, 3), torch.tensor([[1.0, 0, 0]]).expand(500, 3)
    rays = {"rays_o": origins.view(1, 1, 500, 3), "rays_d": directions.view(1, 1, 500, 3)}
    light = torch.zeros(1, 3)
    samples = scene(num_samples_per_ray=4).train()(**rays, light_positions=light)
    within = (samples["t_points"].view(500, 4) - 2) / 0.5 - torch.arange(4)
    assert within.min() >= 0 and within.max() <= 1
    assert abs(within.mean().item() - 0.5) < 0.05 and abs(within[:, 0].var().item() - 1 / 12) < 0.01
    torch.testing.assert_close(within, within[:, :1].expand(-1, 4))  # a ray's samples lie alike in their intervals
    still = scene(num_samples_per_ray=4, randomized=False).train()(**rays, light_positions=light)
    torch.testing.assert_close(still["t_points"].view(500, 4)[7], torch.tensor([2.25, 2.75, 3.25, 3.75]))


def test_two_slabs_composite_front_to_back():
    renderer = scene({"grid_size": [2, 2, 2], "density_bias": 0.0}, {"color_activation": "none"})
    with torch.no_grad():
        renderer.geometry.grid[0, 0] = 1e4  # opaque
        renderer.geometry.grid[0, 1:, :, :, 0] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)  # red at x < 0
        renderer.geometry.grid[0, 1:, :, :, 1] = torch.tensor([0, 0, 1.0]).view(3, 1, 1)  # blue at x > 0
    rays_o = torch.tensor([[-3.0, 0, 0], [3, 0, 0]]).view(2, 1, 1, 3)
    out = renderer.eval()(rays_o, -rays_o / 3, torch.zeros(2, 3))
    rgb = out["comp_rgb"][:, 0, 0]
    assert rgb[0].argmax() == 0 and rgb[1].argmax() == 2
    assert (rgb.amax(-1) > 0.4).all() and (rgb.amin(-1) == 0).all()
    torch.testing.assert_close(rgb[0].flip(0), rgb[1])


def test_out_follows_the_contract_in_training_and_evaluation():
    renderer = scene({"normal_type": "analytic", "density_bias": "blob"}, lit=True, return_comp_normal=True)
    views = batch(3, 5)
    for training in (True, False):
        out = renderer.train(training)(**views)
        shapes = {k: tuple(v.shape) for k, v in out.items()}
        for name in ("comp_rgb", "comp_rgb_fg", "comp_rgb_bg", "comp_normal"):
            assert shapes.pop(name) == (3, 5, 5, 3)
        for name in ("opacity", "depth", "z_variance"):
            assert shapes.pop(name) == (3, 5, 5, 1)
        if not training:
            assert not shapes
            continue
        n = len(out["weights"])
        assert set(shapes) == {
            *("weights", "t_points", "t_intervals", "t_dirs", "ray_indices", "points"),
            *("density", "features", "normal", "shading_normal"),
        }
        assert all(s[0] == n for s in shapes.values())
        total = torch.zeros(75, 1).index_add(0, out["ray_indices"], out["weights"])
        torch.testing.assert_close(total.view(3, 5, 5, 1), out["opacity"])
        at = views["rays_o"].reshape(-1, 3)[out["ray_indices"]] + out["t_points"] * out["t_dirs"]
        torch.testing.assert_close(at, out["points"])


@pytest.mark.parametrize("prune", [False, True])
def test_any_subset_of_rays_renders_as_in_the_whole_and_whatever_the_chunks(prune):
    geometry = {"density_bias": "blob", "normal_type": "analytic"}
    renderer = scene(geometry, lit=True, grid_prune=prune, prune_alpha_threshold=False)
    renderer.update_step(0, 0)
    mode(renderer, False)
    views = batch(2, 6)
    whole = renderer(**views)
    pick = torch.randperm(72)[:31]
    rays = {k: views[k].reshape(1, 1, -1, 3)[:, :, pick] for k in ("rays_o", "rays_d")}
    lights = views["light_positions"].repeat_interleave(36, 0)[pick].view(1, 1, -1, 3)
    some = renderer(**rays, light_positions=lights)
    renderer.cfg.eval_chunk_size = 200
    with torch.no_grad():
        chunked = renderer(**views)
    for name, value in whole.items():
        channels = value.shape[-1]
        torch.testing.assert_close(some[name].view(31, channels), value.reshape(72, channels)[pick])
        torch.testing.assert_close(chunked[name], value)


def test_chunks_keep_the_samples_of_training_in_order():
    renderer = scene({"density_bias": "blob"}, randomized=False).train()
    views = batch(2, 4)
    whole = renderer(**views)
    renderer.cfg.eval_chunk_size = 64 * 5
    with torch.no_grad():
        chunked = renderer(**views)
    for name, value in whole.items():
        torch.testing.assert_close(chunked[name], value)


def test_each_image_has_its_own_light():
    renderer = scene({"density_bias": "blob", "normal_type": "analytic"}, lit=True)
    mode(renderer, False)
    one = batch(1, 5)
    rays = {k: one[k].expand(2, -1, -1, -1) for k in ("rays_o", "rays_d")}
    lights = torch.cat([one["camera_positions"], -one["camera_positions"]])
    out = renderer(**rays, light_positions=lights)["comp_rgb_fg"]
    assert out[0, 2, 2].mean() > 2 * out[1, 2, 2].mean()  # lit from the camera, and from behind
    alone = renderer(**{k: v[1:] for k, v in rays.items()}, light_positions=lights[1:])["comp_rgb_fg"]
    torch.testing.assert_close(out[1:], alone)


def test_pruning_leaves_the_picture_as_it_is_and_skips_most_samples():
    geometry = {"density_bias": "blob", "density_blob_scale": 20.0, "density_blob_std": 0.4}
    views = batch(2, 12)
    full = scene(geometry, randomized=False).train()
    for thin in (False, True):
        pruned = scene(geometry, grid_prune=True, prune_alpha_threshold=thin, randomized=False).train()
        pruned.update_step(0, 0)
        expected, out = full(**views), pruned(**views)
        assert len(out["points"]) < 0.3 * len(expected["points"])
        # a cell counts as empty by one random point of it, so that edges lose a little
        error = (out["comp_rgb"] - expected["comp_rgb"]).abs()
        assert error.mean() < 0.005 and error.max() < 0.1
        assert out["opacity"].max() > 0.95


def test_rays_that_miss_and_grids_that_are_empty_show_the_background():
    views = batch(1, 4)
    away = {**views, "rays_d": -views["rays_d"]}
    for renderer, rays in ((scene(), away), (scene({"density_bias": 0.0}, grid_prune=True), views)):
        out = renderer.train()(**rays)
        torch.testing.assert_close(out["comp_rgb"], torch.ones(1, 4, 4, 3))
        torch.testing.assert_close(out["opacity"], torch.zeros(1, 4, 4, 1))
        out["comp_rgb"].sum().backward()


def test_gradients_reach_the_field_and_agree_with_finite_differences():
    renderer = scene({"density_activation": "softplus"}, randomized=False, num_samples_per_ray=16).train().double()
    renderer.geometry.double()
    views = {k: v.double() for k, v in batch(1, 5).items() if torch.is_tensor(v)}
    grid = renderer.geometry.grid
    with torch.no_grad():
        grid.copy_(torch.randn(grid.shape, generator=torch.Generator().manual_seed(0)))
    probe = torch.randn(1, 5, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    change = torch.randn(grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def value() -> torch.Tensor:
        out = renderer(**views)
        return (out["comp_rgb"] * probe).sum() + out["depth"].sum() + out["z_variance"].sum()

    (grad,) = torch.autograd.grad(value(), grid)
    with torch.no_grad():
        grid += 1e-6 * change
        ahead = value()
        grid -= 2e-6 * change
        behind = value()
    torch.testing.assert_close((grad * change).sum(), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-6)


def test_a_nan_in_the_field_is_seen_in_the_picture():
    renderer = scene({"density_bias": "blob"})
    with torch.no_grad():
        renderer.geometry.grid[0, 0, 4, 4, 4] = float("nan")
    views = batch(1, 6)
    for training in (True, False):
        assert renderer.train(training)(**views)["comp_rgb"].isnan().any()


def test_a_given_background_colour_replaces_the_background():
    renderer = scene().eval()
    views = batch(2, 4)
    colors = torch.rand(2, 3)
    out = renderer(**views, bg_color=colors)
    expected = out["comp_rgb_fg"] + colors[:, None, None] * (1 - out["opacity"])
    torch.testing.assert_close(out["comp_rgb"], expected)
    per_pixel = renderer(**views, bg_color=colors[:, None, None].expand(2, 4, 4, 3))
    torch.testing.assert_close(per_pixel["comp_rgb"], expected)


def test_perturbed_normals_come_when_asked_for():
    renderer = scene({"normal_type": "analytic"}, lit=True, return_normal_perturb=True).train()
    out = renderer(**batch(1, 3))
    assert out["normal_perturb"].shape == out["normal"].shape


def test_a_hash_grid_renders_and_trains(device):
    encoding = {"otype": "HashGrid", "n_levels": 2, "n_features_per_level": 2, "log2_hashmap_size": 8}
    encoding |= {"base_resolution": 4, "per_level_scale": 2.0}
    renderer = scene({"pos_encoding_config": encoding, "density_activation": "softplus"}, kind="implicit-volume")
    views = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in batch(1, 4).items()}
    out = on(renderer, device).train()(**views)
    (out["comp_rgb"] ** 2).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in renderer.geometry.parameters())


def test_the_scene_is_no_part_of_the_renderers_state():
    assert not any(k.startswith(("geometry", "material", "background")) for k in scene().state_dict())
    assert not list(scene().parameters())


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ("estimator: proposal", ["system.renderer.estimator", "occgrid"]),
        ("num_samples_per_ray: 0", ["system.renderer.num_samples_per_ray", "above 0"]),
        ("near_plane: -1.0", ["system.renderer.near_plane"]),
    ],
)
def test_bad_values_name_the_config_path(cfg, words):
    parsed = load_config("{system: {renderer: {" + cfg + "}}}", from_string=True).system.renderer
    with pytest.raises(UserError) as e:
        NeRFVolumeRenderer(parsed, geometry=None, material=None, background=None)
    assert all(word in str(e.value) for word in words), e.value
