from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pullback.errors import UserError
from pullback.host.scene.encoding import Frequency, HashGrid, SphericalHarmonics, get_encoding
from pullback.host.scene.interpolation import gather, lookup_voxels
from pullback.host.scene.networks import get_activation, get_mlp


def double_grid(**options) -> HashGrid:
    grid = HashGrid(**options).double()
    with torch.no_grad():
        grid.params.copy_(torch.randn(grid.params.shape, generator=torch.Generator().manual_seed(0)))
    return grid


def test_gather_is_the_weighted_sum_with_derivatives_of_every_order():
    g = torch.Generator().manual_seed(0)
    table = torch.randn(7, 3, dtype=torch.float64, generator=g, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, generator=g, requires_grad=True)
    index = torch.randint(0, 7, (5, 4), generator=g).int()  # with repetitions, also within a row
    expected = torch.einsum("nk,nkf->nf", weight, table[index.long()])
    torch.testing.assert_close(gather(table, index, weight), expected)
    assert torch.autograd.gradcheck(lambda t, w: gather(t, index, w), (table, weight))
    assert torch.autograd.gradgradcheck(lambda t, w: gather(t, index, w), (table, weight))
    d_table, d_weight = torch.randn_like(table), torch.randn_like(weight)
    jvp: Any = torch.func.jvp(lambda t, w: gather(t, index, w), (table.detach(), weight.detach()), (d_table, d_weight))
    by_hand = gather(d_table, index, weight) + gather(table, index, d_weight)
    torch.testing.assert_close(jvp[1], by_hand.detach())


def test_voxel_lookup_is_grid_sample_inside_and_outside_the_box(device):
    g = torch.Generator().manual_seed(0)
    grid = torch.randn(1, 4, 5, 6, 7, dtype=torch.float64, generator=g).to(device)
    points = (torch.rand(500, 3, dtype=torch.float64, generator=g) * 1.6 - 0.3).to(device)
    reference = F.grid_sample(grid, (points * 2 - 1)[None, None, None], align_corners=False)
    torch.testing.assert_close(lookup_voxels(grid, points), reference.view(4, -1).T)
    channels_last = grid.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(lookup_voxels(channels_last, points), reference.view(4, -1).T)


def test_hash_grid_levels_have_the_sizes_of_the_paper_and_do_not_share_entries():
    grid = HashGrid(n_levels=5, base_resolution=4, per_level_scale=2.0, log2_hashmap_size=9)
    assert [level.resolution for level in grid.levels] == [4, 8, 16, 32, 64]
    sizes = [level.size for level in grid.levels]
    assert sizes == [64, 512, 512, 512, 512]
    out = grid(torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)))
    for level in range(5):
        (grad,) = torch.autograd.grad(out[:, 2 * level : 2 * level + 2].sum(), grid.params, retain_graph=True)
        touched = grad.view(-1, 2).abs().sum(1).nonzero()[:, 0]
        first = sum(sizes[:level])
        assert touched.min() >= first and touched.max() < first + sizes[level]
        assert len(touched) > 0.7 * sizes[level]


def test_hash_grid_is_continuous_across_cell_faces_of_hashed_levels():
    grid = double_grid(n_levels=4, base_resolution=8, log2_hashmap_size=8)
    assert grid.levels[3].scale == 63
    inside = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for axis in range(3):
        face = inside.clone()
        face[:, axis] = ((face[:, axis] * 63).round() - 0.5) / 63  # faces of cells of the finest of four levels
        before, after = face.clone(), face.clone()
        before[:, axis] -= 1e-9
        after[:, axis] += 1e-9
        torch.testing.assert_close(grid(before), grid(after), atol=1e-5, rtol=0)


def test_hash_grid_gradients_by_position_and_params_once_and_twice():
    grid = double_grid(n_levels=2, base_resolution=3, log2_hashmap_size=5)
    x = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)

    def encode(position, params):
        return torch.func.functional_call(grid, {"params": params}, position)

    params = grid.params.detach().requires_grad_()
    assert torch.autograd.gradcheck(encode, (x, params), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(encode, (x, params))


def test_progressive_bands_open_one_after_the_other():
    config = {"otype": "ProgressiveBandHashGrid", "n_levels": 4, "n_features_per_level": 2}
    config |= {"log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 2.0}
    encoding = get_encoding(3, {**config, "start_level": 1, "start_step": 10, "update_steps": 5, "include_xyz": True})
    x = torch.rand(50, 3)
    assert encoding.n_output_dims == 11
    for step, open_levels in [(0, 1), (14, 1), (15, 2), (20, 3), (25, 4), (1000, 4), (3, 1)]:
        encoding.do_update_step(0, step)
        out = encoding(x)
        torch.testing.assert_close(out[:, :3], x * 2 - 1)
        bands = out[:, 3:].view(50, 4, 2).abs().sum((0, 2)) > 0
        assert bands.tolist() == [level < open_levels for level in range(4)]


def test_frequencies_of_a_known_position():
    out = Frequency(1, n_frequencies=2)(torch.tensor([[0.25]]))
    torch.testing.assert_close(out, torch.tensor([[math.sqrt(0.5), math.sqrt(0.5), 1.0, 0.0]]))


def test_spherical_harmonics_are_orthonormal_on_the_sphere():
    degree = 5
    # Gauss-Legendre in z and equal steps in azimuth integrate products up to degree 8 exactly
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(8)
    z, w = torch.from_numpy(nodes), torch.from_numpy(weights)
    phi = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    s = (1 - z**2).sqrt()
    directions = torch.stack([s[:, None] * phi.cos(), s[:, None] * phi.sin(), z[:, None].expand(-1, 16)], -1).reshape(
        -1, 3
    )
    y = SphericalHarmonics(degree=degree)((directions + 1) / 2)
    area = (w[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1)
    torch.testing.assert_close(y.T @ (area[:, None] * y), torch.eye(degree**2, dtype=torch.float64))
    # the second band is √(3/4π) · (−y, z, −x)
    signed = directions[:, [1, 2, 0]] * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(y[:, 1:4], math.sqrt(3 / (4 * math.pi)) * signed)


def test_networks_have_the_asked_for_layers_and_are_linear_without_activation():
    config = {"otype": "FullyFusedMLP", "n_neurons": 8, "n_hidden_layers": 2, "activation": "None"}
    network = get_mlp(3, 2, config)
    assert [tuple(p.shape) for p in network.parameters()] == [(8, 3), (8, 8), (2, 8)]
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(network(a + 2 * b), network(a) + 2 * network(b))


def test_truncated_exponential_keeps_its_value_and_bounds_its_gradient():
    x = torch.tensor([1.0, 20.0], requires_grad=True)
    value = get_activation("trunc_exp")(x)
    torch.testing.assert_close(value, x.detach().exp())
    (grad,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(grad, torch.tensor([1.0, 15.0]).exp())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: get_encoding(3, {"otype": "HashGird"}, "system.geometry.e"), ["system.geometry.e.otype", "HashGrid"]),
        (lambda: get_encoding(3, {"otype": "HashGrid", "n_level": 2}, "a.b"), ["a.b", "n_level"]),
        (lambda: get_mlp(3, 1, {"otype": "MLP"}, "c.d"), ["c.d.otype", "VanillaMLP"]),
        (lambda: get_activation("softpluss", "e.f"), ["e.f", "softpluss", "softplus"]),
    ],
)
def test_bad_options_are_named(make, words):
    with pytest.raises(UserError) as e:
        make()
    assert all(word in str(e.value) for word in words)


def test_mixed_precision_leaves_lookups_and_their_derivatives_alone():
    """Lightning's 16-mixed and bf16-mixed run the forward pass, in which normals are differentiated, in autocast."""
    torch.manual_seed(0)
    table = torch.randn(20, 3, requires_grad=True)
    index, weight = torch.randint(20, (7, 4)), torch.randn(7, 4, requires_grad=True)

    def derivatives() -> tuple[torch.Tensor, ...]:
        value = gather(table, index, weight).square().sum()
        (slope,) = torch.autograd.grad(value, weight, create_graph=True)
        return (value, slope, *torch.autograd.grad(slope.square().sum(), (table, weight)))

    expected = derivatives()
    with torch.autocast("cpu", torch.bfloat16):
        in_half = derivatives()
    assert all(torch.equal(a, b) for a, b in zip(expected, in_half, strict=True))
