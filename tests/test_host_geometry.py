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
from pullback.host.scene.mesh import LIT, isosurface
from pullback.host.scene.mesh_parts import Mesh, remove_specks, without_hidden_parts
from pullback.host.scene.outside import close_cracks, light_from_outside

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
    defaults = {"density_bias": 0.0, "density_activation": "relu", "isosurface_threshold": 25.0}
    defaults |= {"isosurface_resolution": 48, "radius": radius, "grid_size": [resolution] * 3}
    field = grid(**{**defaults, **cfg})
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


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_automatic_surface_is_where_the_light_from_outside_fades(factor):
    """And not at some density: twice as much of it moves the surface outwards, as it does the render's rim."""
    field = ball(isosurface_threshold="auto", isosurface_coarse_to_fine=False)
    with torch.no_grad():
        field.grid[0, 0] *= factor
    found = field.isosurface().v_pos
    above = found[found[:, 2] > 0.3].norm(dim=-1)
    # the density falls from outside, at 0.85, by 100·factor: its integral head-on is 50·factor·depth²
    depth = math.sqrt(-math.log(LIT) / (50 * factor))
    # the nearest way of the light may be 28° from the normal, which lengthens it by 1/cos
    voxel = 2 / 47
    assert 0.85 - depth - 0.2 * voxel < above.min()
    assert above.max() < 0.85 - depth * math.cos(math.radians(28)) + 0.2 * voxel
    assert found.norm(dim=-1).max() < 0.86  # from below, where no light comes from


def test_what_is_nearly_transparent_has_a_surface_too():
    """A run that was stopped early has a mesh, if none that anyone could see in a render."""
    field = ball(isosurface_threshold="auto")
    with torch.no_grad():
        field.grid[0, 0] *= 1e-3
    assert 0.1 < field.isosurface().v_pos.norm(dim=-1).max() < 0.85


def test_light_from_outside_is_the_transmittance_of_the_best_way():
    """Through a slab, from above; under its rim, from the side; and none from below."""
    density = torch.zeros(9, 9, 9)
    density[:, :, 4:6] = 0.7
    light = light_from_outside(density, (1.0, 1.0, 0.5))
    assert (light[:, :, 6:] == 1).all()
    # by the trapezium rule: half a step up to 0.7 and one at it, from above; from the side along the slab's first step
    steps = torch.tensor([0.5 * 0.5 * 0.7, 1.5 * 0.5 * 0.7])
    torch.testing.assert_close(light[4, 4, [5, 4]], torch.exp(-steps))
    assert (light[0, :, :4] == 1).all() and (light[:, 4, 3] == 1).all()  # level light
    density[:, :, 0] = density[[0, -1]] = 0.7
    density[:, [0, -1]] = 0.7  # a closed box
    assert light_from_outside(density, (1.0, 1.0, 0.5))[4, 4, 2] < math.exp(-0.69)


def test_a_hole_of_one_vertex_is_closed_and_a_wide_one_is_not():
    light = torch.zeros(11, 11, 11)
    light[:, :, 6:] = 1
    flat = light.clone()
    light[5, 5, :] = 1
    assert torch.equal(close_cracks(light.clone()), flat)
    light[3:7, 3:7, :] = 1
    wide = close_cracks(light.clone())
    assert torch.equal(wide, light)


def test_what_lies_inside_is_left_out_and_what_stands_beside_is_not():
    import trimesh

    def shell(radius: float, at: float = 0.0, outwards: bool = True) -> Any:
        part = trimesh.creation.icosphere(2, radius)
        part.apply_translation([at, 0, 0])
        if not outwards:
            part.invert()
        return part

    hollow = [shell(1.0), shell(0.8, outwards=False), shell(0.5), shell(0.1, 0.3), shell(0.4, 2.0)]
    both: Any = trimesh.util.concatenate(hollow)
    mesh = without_hidden_parts(Mesh(torch.from_numpy(both.vertices.copy()), torch.from_numpy(both.faces.copy())))
    left = trimesh.Trimesh(mesh.v_pos.numpy(), mesh.t_pos_idx.numpy(), process=False)
    assert left.is_watertight and left.body_count == 2
    assert left.volume == pytest.approx(hollow[0].volume + hollow[-1].volume)


@pytest.mark.parametrize("threshold", ["auto", 5.0])
def test_a_hollow_ball_has_one_surface(threshold):
    import trimesh

    field = ball(isosurface_threshold=threshold)
    with torch.no_grad():
        field.grid[0, 0, 18:30, 18:30, 18:30] = 0
    mesh = field.isosurface()
    solid = trimesh.Trimesh(mesh.v_pos.numpy(), mesh.t_pos_idx.numpy(), process=False)
    assert solid.is_watertight and solid.body_count == 1 and solid.volume > 4 / 3 * math.pi * 0.75**3


def test_a_surface_at_any_resolution_asks_for_few_points_at_a_time():
    most = []

    def density(points):
        most.append(len(points))
        return 50 + 50 * (0.5 - points.norm(dim=-1, keepdim=True))

    field = ball(isosurface_resolution=150)
    isosurface(density, field.cfg, field.bbox)
    assert max(most) == 2**15
    field.cfg.isosurface_chunk = 1000
    most.clear()
    isosurface(density, field.cfg, field.bbox)
    assert max(most) == 1000


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
