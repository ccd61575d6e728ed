"""`implicit-sdf` and `neus-volume-renderer`: closed forms of planes and solids, normals, the surface, bad configs."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.errors import UserError
from pullback.host.parts import load_parts
from pullback.host.registry import find

load_parts()
HASH = {"otype": "HashGrid", "n_levels": 2, "n_features_per_level": 2, "log2_hashmap_size": 10}
HASH |= {"base_resolution": 4, "per_level_scale": 2.0}
NETWORK = {"otype": "VanillaMLP", "n_neurons": 8, "n_hidden_layers": 1}


def sdf(**cfg):
    """A fresh field, whose networks are nearly 0: its signed distance is the bias."""
    torch.manual_seed(0)
    ball = {"sdf_bias": "sphere", "sdf_bias_params": 0.5}
    return find("implicit-sdf")({"pos_encoding_config": HASH, "mlp_network_config": NETWORK, **ball, **cfg})


def neus(geometry, **cfg):
    material = find("no-material")({"n_output_dims": 3})
    background = find("solid-color-background")({"color": [1.0, 1.0, 1.0]})
    settings = {"num_samples_per_ray": 64, "grid_prune": False, **cfg}
    return find("neus-volume-renderer")(settings, geometry=geometry, material=material, background=background).eval()


def ahead(x: torch.Tensor):
    """Rays against z that start at (x, 0, 3)."""
    origins = torch.stack([x, torch.zeros_like(x), torch.full_like(x, 3.0)], -1)[None, None]
    return {"rays_o": origins, "rays_d": torch.tensor([0.0, 0.0, -1.0]).expand_as(origins), "light_positions": origins}


@pytest.mark.parametrize(
    "cfg, distance",
    [
        ({}, lambda p: p.norm(dim=-1, keepdim=True) - 0.5),
        (
            {"sdf_bias": "ellipsoid", "sdf_bias_params": [0.5, 0.25, 1.0]},
            lambda p: (p / torch.tensor([0.5, 0.25, 1.0])).norm(dim=-1, keepdim=True) - 1,
        ),
        ({"sdf_bias": -0.2}, lambda p: torch.full_like(p[..., :1], -0.2)),
    ],
)
def test_a_fresh_field_is_its_bias(cfg, distance):
    points = 2 * torch.rand(4, 5, 3) - 1
    field = sdf(**cfg)
    torch.testing.assert_close(field(points)["sdf"], distance(points), atol=1e-3, rtol=0)
    torch.testing.assert_close(field.forward_sdf(points), field(points)["sdf"])
    assert field.export(points)["features"].shape == (4, 5, 3)


@pytest.mark.parametrize("kind", ["analytic", "finite_difference", "finite_difference_laplacian"])
def test_normals_of_a_ball_point_outwards(kind):
    points = torch.randn(50, 3)
    points = 0.6 * points / points.norm(dim=-1, keepdim=True)
    out = sdf(normal_type=kind)(points, output_normal=True)
    torch.testing.assert_close(out["normal"], points / 0.6, atol=0.02, rtol=0)
    assert out["sdf_grad"].norm(dim=-1).sub(1).abs().max() < 0.02


def test_a_ray_through_a_ball_is_opaque_and_one_beside_it_is_not():
    renderer = neus(sdf(), num_samples_per_ray=256, learned_variance_init=0.5)
    out = renderer(**ahead(torch.tensor([0.0, 0.2, 0.8])))
    opacity = out["opacity"][0, 0, :, 0]
    assert opacity[:2].min() > 0.995 and opacity[2] < 0.02
    torch.testing.assert_close(out["depth"][0, 0, :2, 0], 3 - torch.tensor([0.25, 0.21]).sqrt(), atol=0.03, rtol=0)
    torch.testing.assert_close(out["comp_rgb"][0, 0, 2], torch.ones(3), atol=0.02, rtol=0)


def test_the_light_behind_a_plane_is_the_logistic_function_at_the_end_of_the_ray():
    """Where the distance falls straight along a ray, T = Φ(s·f_end)/Φ(s·f_start) (NeuS, eq. 13)."""
    field = sdf()
    field.forward_sdf = lambda points: points[..., 2:] + 0.9
    field.forward = lambda points, output_normal=False: {
        "sdf": field.forward_sdf(points), "features": torch.zeros_like(points),
        "normal": torch.tensor([0.0, 0.0, 1.0]).expand_as(points),
    }  # fmt: skip
    for samples in (16, 64):
        renderer = neus(field, num_samples_per_ray=samples, learned_variance_init=0.2)
        out = renderer(**ahead(torch.zeros(1)))
        inv_std = math.exp(2.0)
        left = torch.sigmoid(torch.tensor(-0.1 * inv_std)) / torch.sigmoid(torch.tensor(1.9 * inv_std))
        assert float(1 - out["opacity"]) == pytest.approx(float(left), abs=2e-3)


def test_volsdf_has_the_density_of_a_laplace_law():
    """Through a slab of constant distance −d the opacity is 1 − exp(−length·(1 − ½exp(−d·s))·s)."""
    field = sdf(sdf_bias=-0.05)
    renderer = neus(field, use_volsdf=True, learned_variance_init=0.1)
    assert not renderer._needs_normal
    inv_std = math.exp(1.0)
    density = inv_std * (1 - 0.5 * math.exp(-0.05 * inv_std))
    opacity = float(renderer(**ahead(torch.zeros(1)))["opacity"])
    assert opacity == pytest.approx(1 - math.exp(-2 * density), abs=2e-3)


@pytest.mark.parametrize("prune", [False, True])
def test_gradients_reach_field_and_variance_and_pruning_keeps_the_picture(prune):
    renderer = neus(sdf(), grid_prune=prune, learned_variance_init=0.4).train()
    for step in range(3) if prune else ():
        renderer.do_update_step(0, step)
    out = renderer.eval()(**ahead(torch.linspace(-0.9, 0.9, 9)))
    whole = neus(renderer.geometry, learned_variance_init=0.4)(**ahead(torch.linspace(-0.9, 0.9, 9)))
    torch.testing.assert_close(out["comp_rgb"], whole["comp_rgb"], atol=0.02, rtol=0)
    out["comp_rgb"].square().sum().backward()
    assert float(renderer.variance._inv_std.grad) != 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in renderer.geometry.parameters())


def test_surfaces_seen_from_behind_count_until_the_annealing_ends():
    """A ray from just within a ball, outwards: the distance grows, so at the end of the annealing little is met."""
    origins, directions = torch.tensor([[[[0.49, 0.0, 0.0]]]]), torch.tensor([[[[0.0, 0.0, 1.0]]]])
    rays = {"rays_o": origins, "rays_d": directions, "light_positions": torch.zeros(1, 3)}
    renderer = neus(sdf(), cos_anneal_end_steps=10, learned_variance_init=0.4)
    opacities = []
    for step in (0, 10):
        renderer.update_step(0, step)
        opacities.append(float(renderer(**rays)["opacity"]))
    assert opacities[0] > opacities[1]


def test_the_surface_is_the_ball_and_what_there_is_none_of_is_said():
    mesh = sdf(isosurface_resolution=32, isosurface_coarse_to_fine=False).isosurface()
    assert mesh.v_pos.norm(dim=-1).sub(0.5).abs().max() < 0.01
    outer = sdf(isosurface_resolution=32, isosurface_threshold=0.2).isosurface()
    assert outer.v_pos.norm(dim=-1).sub(0.7).abs().max() < 0.01
    with pytest.raises(UserError, match=r"no surface to export.*the negative signed distance lies between"):
        sdf(isosurface_resolution=8, sdf_bias=1.0).isosurface()


def test_a_first_shape_is_fitted(monkeypatch):
    monkeypatch.setattr("pullback.host.scene.sdf._STEPS", 200)
    field = sdf(sdf_bias=0.0, shape_init="sphere", shape_init_params=0.5)
    points = 2 * torch.rand(500, 3) - 1
    away = [float((field.forward_sdf(points) - points.norm(dim=-1, keepdim=True) + 0.5).square().mean().sqrt())]
    field.initialize_shape()
    away.append(float((field.forward_sdf(points) - points.norm(dim=-1, keepdim=True) + 0.5).square().mean().sqrt()))
    assert away[1] < 0.3 * away[0]


@pytest.mark.parametrize(
    "cfg, words",
    [
        ({"radius": 0}, "`radius` must be above 0, not 0"),
        ({"sdf_bias": "cube"}, "`sdf_bias` must be sphere or ellipsoid, not 'cube'"),
        ({"sdf_bias": "ellipsoid", "sdf_bias_params": 0.5}, "`sdf_bias_params` must be three semi-axes above 0"),
        ({"sdf_bias_params": -1.0}, "`sdf_bias_params` must be a radius above 0 for the sphere of sdf_bias, not -1.0"),
        ({"shape_init": "mesh:a.obj"}, "`shape_init` is 'mesh:a.obj', but a mesh to start from needs threestudio"),
        (
            {"shape_init": "sphere"},
            "`shape_init_params` must be a radius above 0 for the sphere of shape_init",
        ),
        ({"normal_type": None}, "`normal_type` must be one of analytic"),
        ({"finite_difference_normal_eps": "progressive"}, "must be a number above 0, not progressive"),
        ({"isosurface_method": "dc"}, "`isosurface_method` must be 'mt' or 'mc-cpu', not dc"),
        ({"isosurface_resolution": 1}, "`isosurface_resolution` must be at least 2"),
    ],
)
def test_bad_values_name_the_key(cfg, words):
    with pytest.raises(UserError) as error:
        sdf(**cfg)
    assert words in str(error.value) and not str(error.value).endswith(".")


def test_parts_that_do_not_fit_are_said():
    with pytest.raises(UserError, match="neus-volume-renderer, which needs a signed distance"):
        neus(find("volume-grid")({"grid_size": [4, 4, 4]}))
    with pytest.raises(UserError, match="cos_anneal_end_steps"):
        neus(sdf(), cos_anneal_end_steps=-1)
