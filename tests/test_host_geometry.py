from __future__ import annotations

import math
from typing import Any

import pullback.host.scene.implicit_volume
import pullback.host.scene.volume_grid  # noqa: F401
import pytest
import torch
import torch.nn.functional as F
from pullback.errors import NonFiniteError, UserError
from pullback.host.config import load_config
from pullback.host.registry import find
from pullback.host.scene.mesh import Mesh, grid_points, remove_specks

HASH = {"otype": "HashGrid", "n_levels": 3, "n_features_per_level": 2, "log2_hashmap_size": 10}
HASH |= {"base_resolution": 4, "per_level_scale": 2.0}
NETWORK = {"otype": "VanillaMLP", "n_neurons": 16, "n_hidden_layers": 1}


def implicit(**cfg):
    torch.manual_seed(0)
    return find("implicit-volume")({"pos_encoding_config": HASH, "mlp_network_config": NETWORK, **cfg})


def grid(**cfg):
    return find("volume-grid")({"grid_size": [8, 8, 8], **cfg})


def ball(resolution: int = 48, radius: float = 1.0, **cfg):
    """A grid whose density falls off linearly in |x| and is 25 at |x| = 0.6."""
    field = grid(
        grid_size=[resolution] * 3,
        density_bias=0.0,
        density_activation="relu",
        isosurface_threshold=25.0,
        isosurface_resolution=48,
        radius=radius,
        **cfg,
    )
    with torch.no_grad():
        x = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
        z, y, x = (radius * a for a in torch.meshgrid(x, x, x, indexing="ij"))
        field.grid[0, 0] = 25 * (1 + 4 * (0.6 - (x**2 + y**2 + z**2).sqrt()))
        field.grid[0, 1:] = torch.stack([x, y, z])
    return field


@pytest.mark.parametrize("make", [implicit, grid])
def test_fresh_fields_are_the_density_bias(make):
    points = torch.rand(50, 3) - 0.5
    r = points.norm(dim=-1, keepdim=True)
    cases = {
        "blob_magic3d": 8 * (1 - r / 0.4),
        "blob_dreamfusion": 8 * torch.exp(-(r**2) / (2 * 0.4**2)),
        -1.5: torch.full_like(r, -1.5),
    }
    for bias, raw in cases.items():
        field = make(density_bias=bias, density_blob_scale=8.0, density_blob_std=0.4)
        # a fresh hash grid is within 1e-4 of zero, and its networks do not amplify it
        torch.testing.assert_close(field(points)["density"], F.softplus(raw), atol=1e-3, rtol=0)
        torch.testing.assert_close(field.forward_density(points), field(points)["density"])


@pytest.mark.parametrize("make", [implicit, grid])
@pytest.mark.parametrize("kind", ["analytic", "finite_difference", "finite_difference_laplacian"])
def test_normals_of_a_blob_point_outwards(make, kind):
    field = make(density_bias="blob_dreamfusion", normal_type=kind, finite_difference_normal_eps=1e-3)
    points = torch.rand(40, 3) - 0.5
    out = field(points, output_normal=True)
    outwards = F.normalize(points, dim=-1)
    assert (out["normal"] * outwards).sum(-1).min() > 0.98
    assert out["shading_normal"] is out["normal"]


@pytest.mark.parametrize("make", [implicit, grid])
def test_analytic_normals_are_the_gradient_and_train_the_field(make):
    field = make(normal_type="analytic", density_bias=0.0).double()
    with torch.no_grad():
        for p in field.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    points = torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5
    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    shifted = points[:, None] + torch.stack([steps, -steps])[:, None]
    ahead, behind = field.forward_density(shifted)[..., 0].detach()
    expected = F.normalize(behind - ahead, dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(field(points, output_normal=True)["normal"], expected, atol=1e-4, rtol=0)
    normal = field(points, output_normal=True)["normal"]
    leaf = field.grid if make is grid else field.encoding.encoding.encoding.params
    (grad,) = torch.autograd.grad(normal[:, 0].sum(), leaf)
    spot = int(grad.abs().argmax())
    with torch.no_grad():
        # flat order of the values, whatever the memory format
        where = torch.unravel_index(torch.tensor(spot), grad.shape)
        sums = []
        for change in (1e-6, -2e-6):
            leaf[where] += change
            sums.append(field(points, output_normal=True)["normal"][:, 0].sum())
    torch.testing.assert_close(grad[where], (sums[0] - sums[1]) / 2e-6, rtol=1e-4, atol=1e-6)


def test_predicted_normals_have_length_one():
    out = implicit(normal_type="pred")(torch.rand(7, 3), output_normal=True)
    torch.testing.assert_close(out["normal"].norm(dim=-1), torch.ones(7))


def test_batch_shapes_are_kept_and_empty_batches_work():
    for field in (implicit(), grid()):
        out = field(torch.rand(2, 3, 4, 3))
        assert out["density"].shape == (2, 3, 4, 1) and out["features"].shape == (2, 3, 4, 3)
        assert field(torch.rand(0, 3))["density"].shape == (0, 1)


def test_grid_values_at_voxel_centres_and_the_axes_they_run_along():
    field = grid(grid_size=[2, 3, 4], density_bias=0.0, density_activation="none", n_feature_dims=2)
    with torch.no_grad():
        field.grid.copy_(torch.arange(3 * 24.0).view(1, 3, 2, 3, 4))
    k, j, i = 1, 2, 3
    centre = torch.tensor([[(i + 0.5) / 4, (j + 0.5) / 3, (k + 0.5) / 2]]) * 2 - 1
    out = field(centre)
    torch.testing.assert_close(out["density"], field.grid[:, :1, k, j, i])
    torch.testing.assert_close(out["features"], field.grid[:, 1:, k, j, i])


def test_density_scale_is_learned_with_a_constant_bias_only():
    assert "density_scale" in dict(grid(density_bias=-1.0).named_parameters())
    assert "density_scale" in dict(grid().named_buffers())


def test_blob_width_anneals_with_the_steps():
    anneal = {"min_anneal_step": 10, "max_anneal_step": 20, "start_val": 0.2, "end_val": 0.6}
    field = implicit(anneal_density_blob_std_config=anneal)
    for step, width in [(0, 0.2), (10, 0.2), (15, 0.4), (20, 0.6), (90, 0.6)]:
        field.do_update_step(0, step)
        assert field.density_blob_std == pytest.approx(width)


@pytest.mark.parametrize("coarse_to_fine", [False, True])
def test_isosurface_of_a_ball_is_closed_round_and_faces_outwards(coarse_to_fine):
    import trimesh

    field = ball(isosurface_coarse_to_fine=coarse_to_fine, radius=1.0)
    mesh = field.isosurface()
    solid = trimesh.Trimesh(mesh.v_pos.numpy(), mesh.t_pos_idx.numpy(), process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    assert (mesh.v_pos.norm(dim=-1) - 0.6).abs().max() < 2 / 48
    assert solid.volume == pytest.approx(4 / 3 * torch.pi * 0.6**3, rel=0.01)


def test_isosurface_that_reaches_the_box_is_closed_there():
    import trimesh

    # density ln 2 at |x| = 1.2: a ball without the six caps that stand out of the box
    field = grid(density_bias="blob", density_blob_std=1.2, isosurface_resolution=48)
    field.cfg.isosurface_threshold = math.log(2)
    mesh = field.isosurface()
    solid = trimesh.Trimesh(mesh.v_pos.numpy(), mesh.t_pos_idx.numpy(), process=False)
    assert solid.is_watertight and mesh.v_pos.abs().max() == 1
    cap = math.pi * 0.2**2 * (3 * 1.2 - 0.2) / 3
    assert solid.volume == pytest.approx(4 / 3 * math.pi * 1.2**3 - 6 * cap, rel=0.01)


def test_auto_threshold_is_the_mean_of_what_is_occupied():
    field = ball(isosurface_coarse_to_fine=False)
    with torch.no_grad():
        field.grid[0, 0] = (field.grid[0, 0] > 25) * 10.0  # a ball of density 10
    density = field.forward_density(grid_points(field.bbox, 48)).detach()
    field.cfg.isosurface_threshold = float(density[density > 1e-5].mean())
    expected = field.isosurface()
    field.cfg.isosurface_threshold = "auto"
    torch.testing.assert_close(field.isosurface().v_pos, expected.v_pos)


def test_specks_are_removed_by_share_and_by_count():
    import trimesh

    big, small = trimesh.creation.icosphere(2), trimesh.creation.icosphere(0)
    small.apply_translation([5, 0, 0])
    both: Any = trimesh.util.concatenate([big, small])
    mesh = Mesh(torch.from_numpy(both.vertices.copy()), torch.from_numpy(both.faces.copy()))
    assert len(big.faces) == 320 and len(small.faces) == 20
    for least, left in [(0.1, 320), (0.05, 340), (21, 320), (20, 340)]:
        rest = remove_specks(mesh, least)
        assert len(rest.t_pos_idx) == left
        assert rest.t_pos_idx.unique().tolist() == list(range(len(rest.v_pos)))
    assert remove_specks(mesh, 0.1).v_pos[:, 0].max() < 2


def test_an_empty_surface_is_refused_with_the_range_and_the_remedy():
    cfg = load_config(
        "{system: {geometry: {density_bias: -3.0, isosurface_threshold: 25.0}}}", from_string=True
    ).system.geometry
    field = find("volume-grid")(cfg)
    field.cfg.isosurface_resolution = 51
    with torch.no_grad():
        field.grid[0, 0, 40:60, 40:60, 40:60] = 6.0
    with pytest.raises(UserError) as e:
        field.isosurface()
    text = str(e.value)
    low, high = F.softplus(torch.tensor([-3.0, 3.0])).tolist()
    assert "`system.geometry.isosurface_threshold` = 25" in text
    assert f"{low:.3g}" in text and f"{high:.3g}" in text
    remedy = float(text.split("isosurface_threshold=")[1].split()[0])
    field.cfg.isosurface_threshold = remedy
    assert len(field.isosurface().t_pos_idx) > 100  # the remedy works


def test_a_field_that_is_the_same_everywhere_or_not_finite_makes_no_mesh():
    with pytest.raises(UserError, match="no surface"):
        grid(density_bias=-3.0).isosurface()
    field = ball()
    with torch.no_grad():
        field.grid[0, 0, 3, 3, 3] = float("nan")
    with pytest.raises(NonFiniteError):
        field.isosurface()


@pytest.mark.parametrize(
    ("kind", "cfg", "words"),
    [
        ("volume-grid", "radius: 0", ["system.geometry.radius", "above 0"]),
        ("volume-grid", "grid_size: [8, 0, 8]", ["system.geometry.grid_size", "at least 2"]),
        ("volume-grid", "normal_type: fancy", ["system.geometry.normal_type", "analytic"]),
        ("implicit-volume", "density_bias: blub", ["system.geometry.density_bias", "blob_magic3d"]),
        ("implicit-volume", "density_activation: spftplus", ["system.geometry.density_activation", "softplus"]),
        ("implicit-volume", "isosurface_threshold: high", ["system.geometry.isosurface_threshold", "auto"]),
        ("implicit-volume", "pos_encoding_config: {otype: X}", ["geometry.pos_encoding_config.otype", "HashGrid"]),
    ],
)
def test_bad_values_name_the_config_path(kind, cfg, words):
    parsed = load_config("{system: {geometry: {" + cfg + "}}}", from_string=True).system.geometry
    with pytest.raises(UserError) as e:
        find(kind)(parsed)
    assert all(word in str(e.value) for word in words), e.value


def test_normals_that_are_switched_off_are_refused_where_they_are_needed():
    with pytest.raises(UserError, match="normal_type"):
        grid(normal_type=None)(torch.zeros(1, 3), output_normal=True)
