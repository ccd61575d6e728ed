"""The regularisers of threestudio's configs, on renders whose value is known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pullback.errors import UserError
from pullback.host.training.regularisers import REGULARISERS

OPTIONS = {"convexity_res": 8, "emptiness_scale": 10.0, "center_ratio": 0.5}


def value(name: str, **out: torch.Tensor) -> float:
    return float(REGULARISERS[name](out, OPTIONS))


def test_normals_that_face_away_cost_their_weight():
    normal = F.normalize(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 1.0]]), dim=-1)
    looking = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    weights, opacity = torch.tensor([[0.5], [0.25], [0.2]]), torch.tensor([0.9, 0.3, 0.0, 0.0]).view(1, 2, 2, 1)
    # cosines 1, −1 and 1/√2, over the two rays that meet something
    found = value("orient", normal=normal, t_dirs=looking, weights=weights, opacity=opacity)
    assert found == pytest.approx((0.5 + 0.2 / 2) / 2)
    with pytest.raises(UserError, match=r"`system\.loss\.lambda_orient` needs normals"):
        value("orient", weights=weights, opacity=opacity)


def test_weights_are_not_moved_by_the_normals_loss():
    weights = torch.full((2, 1), 0.5, requires_grad=True)
    normal = torch.tensor([[0.0, 0.0, 1.0]] * 2, requires_grad=True)
    out = {"normal": normal, "t_dirs": normal.detach(), "weights": weights, "opacity": torch.ones(1, 1, 2, 1)}
    REGULARISERS["orient"](out, OPTIONS).backward()
    assert weights.grad is None and normal.grad is not None


def test_opacities_cost_what_they_hide_and_what_they_leave_open():
    half, none, full = (torch.full((1, 4, 4, 1), a) for a in (0.5, 0.0, 1.0))
    assert value("sparsity", opacity=none) == pytest.approx(0.1)
    assert value("sparsity", opacity=half) == pytest.approx(math.sqrt(0.26))
    assert value("opaque", opacity=half) == pytest.approx(math.log(2))
    expected = -(1e-3 * math.log(1e-3) + (1 - 1e-3) * math.log(1 - 1e-3))
    assert value("opaque", opacity=full) == pytest.approx(expected, rel=1e-3) == value("opaque", opacity=none)


def test_spread_along_a_ray_counts_where_it_meets_something():
    opacity = torch.tensor([0.9, 0.6, 0.4, 0.1]).view(1, 2, 2, 1)
    spread = torch.tensor([1.0, 3.0, 100.0, 100.0]).view(1, 2, 2, 1)
    assert value("z_variance", opacity=opacity, z_variance=spread) == pytest.approx(2.0)
    assert value("z_variance", opacity=0 * opacity, z_variance=spread) == 0.0


def test_slopes_of_a_distance_are_one():
    assert value("eikonal", sdf_grad=torch.tensor([[1.0, 0, 0], [0, 3.0, 4.0]])) == pytest.approx(8.0)
    with pytest.raises(UserError, match="signed distance"):
        value("eikonal")


def ball() -> torch.Tensor:
    """A picture [1,32,32,3] of a hemisphere's normals: x right, y down, z towards the camera; as (n + 1)/2."""
    y, x = torch.meshgrid(torch.linspace(-0.6, 0.6, 32), torch.linspace(-0.6, 0.6, 32), indexing="ij")
    normal = torch.stack([x, y, (1 - x**2 - y**2).sqrt()], -1)
    return ((normal + 1) / 2)[None]


def test_the_convexity_is_its_formula_on_a_ball_and_zero_where_all_is_flat():
    """threestudio's: z of n(x) × n(x + 1) and of n(y + 1) × n(y), mean each, negated."""
    normals = F.interpolate(ball().movedim(-1, 1), (8, 8), mode="bilinear")[0].movedim(0, -1)
    rows = [torch.linalg.det(torch.stack([normals[i, j], normals[i, j + 1], torch.eye(3)[2]]))
            for i in range(8) for j in range(7)]  # fmt: skip
    columns = [torch.linalg.det(torch.stack([normals[i + 1, j], normals[i, j], torch.eye(3)[2]]))
               for i in range(7) for j in range(8)]  # fmt: skip
    expected = -(sum(rows) / 56 + sum(columns) / 56)
    assert value("convex", comp_normal=ball()) == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(expected)) > 1e-3
    assert value("convex", comp_normal=torch.full((1, 16, 16, 3), 0.7)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="return_comp_normal=true"):
        value("convex")


def test_emptiness_is_the_logarithm_of_the_weights():
    assert value("emptiness", weights=torch.tensor([[0.0], [0.1]])) == pytest.approx(math.log(2) / 2)


def test_depth_rewards_a_middle_that_is_nearer_than_the_border():
    depth, opacity = torch.zeros(1, 4, 4, 1), torch.zeros(1, 4, 4, 1)
    depth[:, 1:3, 1:3], opacity[:, 1:3, 1:3] = 2.0, 1.0
    # what is empty is 10 away, so the middle is 8 nearer
    assert value("depth", depth=depth, opacity=opacity) == pytest.approx(-math.log(8))
    depth[:, 1:3, 1:3] = 13.0
    assert value("depth", depth=depth, opacity=opacity) == pytest.approx(math.log(3))
