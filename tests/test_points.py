"""`point-set`: a disc's closed form, the order of two, the renderer against the representation, files, bad configs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pullback.diffreps import PointSet, orbit
from pullback.diffreps.point_set import THICK, in_ball
from pullback.errors import UserError
from pullback.evaluate.exact_worlds.worlds import about, expand, world
from pullback.host.parts import load_parts
from pullback.host.registry import find
from pullback.views.cameras import camera_batch

load_parts()
FRONT = torch.zeros(1, 3), torch.tensor([[[[1.0, 0.0, 0.0]]]])  # a ray along x


def discs(*places, radius=0.5, colours=None, thick=0.0) -> PointSet:
    """Discs of one radius at places (x, y, z)."""
    made = PointSet(len(places))
    with torch.no_grad():
        made.places.copy_((torch.tensor(places) - made.start) / made.spacing)
        made.sizes.fill_(math.log(radius / made.spacing))
        made.thicknesses.fill_(thick)
        if colours is not None:
            made.colours.copy_(torch.tensor(colours).atanh())
    return made


@pytest.mark.parametrize("away", [0.0, 0.3, 0.6])
def test_a_disc_has_its_closed_form(away):
    made = discs((2.0, away, 0.0), colours=[(0.5, -0.5, 0.0)])
    light, opacity, depth = made.seen(*FRONT)
    alpha = 1 - math.exp(-math.log1p(math.exp(THICK)) * math.exp(-((away / 0.5) ** 4)))
    torch.testing.assert_close(opacity[0, 0, 0], torch.tensor([alpha]))
    torch.testing.assert_close(light[0, 0, 0], alpha * torch.tensor([0.5, -0.5, 0.0]))
    torch.testing.assert_close(depth[0, 0, 0], torch.tensor([2 * alpha]))
    assert away or float(made.opacities.detach()) == pytest.approx(alpha)


def test_the_nearer_disc_hides_the_farther_and_what_lies_behind_the_camera_is_not_seen():
    red, blue = (0.9, -0.9, -0.9), (-0.9, -0.9, 0.9)
    for first, second, seen in ((1.0, 2.0, red), (2.0, 1.0, blue)):
        colours = [red, blue, (0.9, 0.9, 0.9)]
        made = discs((first, 0.0, 0.0), (second, 0.0, 0.0), (-1.0, 0.0, 0.0), colours=colours, thick=30.0)
        torch.testing.assert_close(made.seen(*FRONT)[0][0, 0, 0], torch.tensor(seen))


def test_the_order_of_the_discs_in_memory_does_not_matter():
    torch.manual_seed(0)
    made = PointSet(40, 8, 8)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    views = orbit(torch.tensor([20.0]), torch.tensor([40.0]))
    before, turn = made.render(views), torch.randperm(40)
    with torch.no_grad():
        for values in (made.start, *made.parameters()):
            values.copy_(values[turn].clone())
    torch.testing.assert_close(made.render(views), before)


def test_the_start_fills_the_ball_evenly():
    distance = in_ball(4000).norm(dim=-1)
    shares = torch.tensor([float((distance < r).float().mean()) for r in (0.25, 0.5, 0.75, 1.0)])
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.5, 0.75, 1.0]) ** 3, atol=0.005, rtol=0)
    torch.testing.assert_close(in_ball(4000).mean(0), torch.zeros(3), atol=0.005, rtol=0)
    alpha = 1 - math.exp(-float(F.softplus(torch.tensor(THICK))))
    torch.testing.assert_close(PointSet(9).opacities, torch.full((9,), alpha))


def hosted(size=16, **cfg):
    geometry = find("point-set")({"points": 50, **cfg})
    background = find("solid-color-background")({"color": [1.0, 1.0, 1.0]})
    renderer = find("point-renderer")({}, geometry=geometry, material=None, background=background)
    poses = orbit(torch.tensor([20.0, 50.0]), torch.tensor([15.0, 200.0]), 2.4)
    return geometry, renderer, camera_batch(poses, torch.full((2,), 0.7), size, size)


def test_the_renderer_shows_what_the_representation_renders(tmp_path):
    geometry, renderer, views = hosted()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in geometry.parameters():
            parameter.normal_()
    geometry.discs.height = geometry.discs.width = 16
    out = renderer(**views)
    torch.testing.assert_close(out["comp_rgb"].movedim(-1, 1) * 2 - 1, geometry.discs.render(views))
    renderer.cfg.eval_chunk_size = 1000
    with torch.no_grad():
        for key, value in renderer(**views).items():
            torch.testing.assert_close(value, out[key].detach())
    geometry.save_whole(tmp_path / "whole")
    import trimesh

    cloud = trimesh.load(tmp_path / "whole" / "points.ply")
    torch.testing.assert_close(torch.tensor(cloud.vertices).float(), geometry.discs.positions.detach())


def test_what_does_not_fit_is_said():
    for cfg, words in [({"points": 0}, "`points` must be at least 1"), ({"radius": 0.0}, "`radius` must be above 0")]:
        with pytest.raises(UserError, match=words):
            hosted(**cfg)
    rest = {"material": find("no-material")({}), "background": find("solid-color-background")({})}
    with pytest.raises(UserError, match="point-renderer, which draws point sets only"):
        find("point-renderer")({}, geometry=find("volume-grid")({"grid_size": [4, 4, 4]}), **rest)
    _, renderer, views = hosted()
    views["rays_o"] = views["rays_o"] + torch.rand(2, 16, 16, 3)
    with pytest.raises(UserError, match="one centre"), torch.no_grad():
        renderer(**views)
    for name in ("nerf-volume-renderer", "neus-volume-renderer"):
        with pytest.raises(UserError, match=f"`system.renderer_type` is {name}"):
            find(name)({}, geometry=find("point-set")({"points": 3}), **rest)
    with pytest.raises(UserError, match="has no surface"):
        find("mesh-exporter")({}, geometry=find("point-set")({"points": 3}), **rest)()


def test_worlds_of_scenes_take_another_representation():
    assert expand("shapes", "joint", "point-set") == ["joint-shapes.point-set"] == expand("joint-shapes.point-set")
    made: Any = world("joint-shapes.point-set")
    assert isinstance(made.diffrep(), PointSet) and made.name == "joint-shapes.point-set"
    assert made.defaults["lr"] != world("joint-shapes").defaults["lr"] and about(made.name).endswith("point-set.")
    assert made.diffrep().render(made.held_out[:2]).shape == (2, 3, 24, 24)
    cases = [(("shapes", "", "mesh"), "--diffrep mesh is not known"), (("rings", "", "point-set"), "worlds of scenes")]
    for words, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            expand(*words)
