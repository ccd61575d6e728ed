"""Panoramas: no seam and no poles, crops that agree with the whole picture, the panorama world, MultiDiffusion."""

from __future__ import annotations

import json
import math

import pullback
import pytest
import torch
from pullback import diffreps
from pullback.baselines import multidiffusion
from pullback.errors import UserError
from pullback.evaluate import exact_worlds
from pullback.evaluate.exact_worlds import methods
from pullback.evaluate.exact_worlds import panorama as scenes
from pullback.evaluate.exact_worlds.sceneworld import BLEND
from pullback.fitting.linearise import FlatRender
from pullback.fitting.problem import Fit
from pullback.views import crops

D = torch.float64
VIEWS = crops.look(
    torch.tensor([0.0, 40.0, 90.0, -80.0], dtype=D), torch.tensor([20.0, 180.0, 0.0, -95.0], dtype=D), 75.0
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str) -> diffreps.SphereImage:
    torch.manual_seed(0)
    if name == "siren":
        return diffreps.Panorama(3, 7, 9, hidden=16, layers=2, omega=8.0).double()
    grid = diffreps.EquirectangularGrid(3, 7, 9, resolution=6).double()
    grid.values.data.normal_()
    return grid


def pixels() -> tuple[diffreps.SphereImage, torch.Tensor]:
    """The grid, and its values [3,6,12]."""
    grid = build("grid")
    return grid, next(grid.parameters()).detach()


both = pytest.mark.parametrize("name", ["siren", "grid"])


def toward(elevation: float, azimuth: float) -> torch.Tensor:
    e, a = math.radians(elevation), math.radians(azimuth)
    return torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=D)


# ---- crops


def test_a_crop_looks_where_it_says_with_the_horizon_level():
    for k, (elevation, azimuth) in enumerate([(0, 20), (40, 180), (90, 0), (-80, -95)]):
        pose = VIEWS["c2w"][k, :3, :3]
        assert torch.allclose(-pose[:, 2], toward(elevation, azimuth), atol=1e-12)
        assert abs(float(pose[2, 0])) < 1e-12 and float(pose[2, 1]) > -1e-12  # right is level, up is not down
    rotation = VIEWS["c2w"][:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=D).expand(4, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(4, dtype=D))


def test_the_edges_of_a_crop_are_its_field_of_view():
    towards = crops.directions(crops.look(torch.zeros(1, dtype=D), torch.tensor([30.0], dtype=D), 60.0), 101, 51)[0]
    half = math.radians(30) - math.atan(math.tan(math.radians(30)) * 100 / 101)  # from the outermost centre to the edge
    top = math.asin(float(towards[0, 25, 2])) + half
    assert math.degrees(top) == pytest.approx(30, abs=1e-6)
    assert torch.allclose(towards[50, 25], toward(0, 30), atol=1e-12)
    left = math.degrees(math.atan2(float(towards[50, 0, 1]), float(towards[50, 0, 0])))
    assert left == pytest.approx(30 + math.degrees(math.atan(math.tan(math.radians(30)) * 50 / 101)), abs=1e-9)


@pytest.mark.parametrize("fovy,overlap", [(40.0, 0.3), (60.0, 0.5), (90.0, 0.3), (100.0, 0.6)])
@pytest.mark.parametrize("band", [(-90.0, 90.0), (-35.0, 20.0), (0.0, 0.0)])
def test_a_cover_leaves_nothing_out(fovy, overlap, band):
    views = crops.cover(fovy, overlap, band)
    rotation, half = views["c2w"][:, :3, :3], (views["fovy"] / 2).tan()
    towards = torch.nn.functional.normalize(torch.randn(20_000, 3, generator=seeded(0)), dim=1)
    elevation = torch.rad2deg(towards[:, 2].asin())
    towards = towards[(elevation >= band[0]) & (elevation <= band[1])] if band != (0.0, 0.0) else torch.stack(
        [toward(0, a) for a in range(360)]
    ).float()  # fmt: skip
    local = torch.einsum("nj,vji->vni", towards, rotation)
    plane = (local[..., :2] / -local[..., 2:]).abs().amax(-1)
    seen = (local[..., 2] < 0) & (plane <= half[:, None])
    assert bool(seen.any(0).all())


def test_random_crops_are_neighbours_all_round_and_follow_their_seed():
    draw = crops.RandomCrops(8, (60.0, 90.0), (-20.0, 30.0), (0.4, 0.4))
    views = draw(seeded(3))
    assert all(torch.equal(views[key], value) for key, value in draw(seeded(3)).items())
    ahead = -views["c2w"][:, :3, 2]
    elevation = torch.rad2deg(ahead[:, 2].asin())
    assert bool(((elevation >= -20.001) & (elevation <= 30.001)).all()) and elevation.std() > 1
    fovy = torch.rad2deg(views["fovy"])
    assert bool(((fovy >= 60) & (fovy <= 90)).all())
    azimuth = torch.rad2deg(torch.atan2(ahead[:, 1], ahead[:, 0]))
    steps = azimuth.diff() % 360
    assert torch.allclose(steps, 0.6 * (fovy[1:] + fovy[:-1]) / 2, atol=1e-3)
    whole = crops.RandomCrops()(seeded(0))["c2w"][:, :3, 2]
    azimuth = torch.rad2deg(torch.atan2(whole[:, 1], whole[:, 0])) % 360
    assert torch.allclose(azimuth.sort().values.diff(), torch.full((7,), 45.0), atol=1e-2)


# ---- representations


@both
def test_pull_is_the_adjoint_of_push_and_push_the_derivative(name):
    function = FlatRender(build(name), VIEWS)
    render, push, pull = function.linearise(function.flat)
    v, w = torch.randn_like(function.flat), torch.randn_like(render)
    left = float((push(v) * w).sum())
    assert left == pytest.approx(float(v.dot(pull(w))), rel=1e-10) and abs(left) > 1e-6
    slope = (function(function.flat + 1e-6 * v) - function(function.flat - 1e-6 * v)) / 2e-6
    assert torch.allclose(push(v), slope, atol=1e-6, rtol=1e-5)


@both
@pytest.mark.parametrize("elevation", [-60.0, 0.0, 45.0, 89.0])
def test_there_is_no_seam_at_180_degrees(name, elevation):
    rep = build(name)
    for small in (1e-3, 1e-6):
        left, right = rep.colours(torch.stack([toward(elevation, 180 - small), toward(elevation, small - 180)]))
        assert (left - right).abs().max() < 0.5 * small
    # not because nothing changes there
    assert (rep.colours(torch.stack([toward(0, 150), toward(0, 180)])).diff(dim=0)).abs().max() > 1e-3


@both
@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_all_azimuths_meet_at_the_poles(name, pole):
    rep = build(name)
    for small in (1e-2, 1e-5):
        ring = rep.colours(torch.stack([toward(pole - math.copysign(small, pole), a) for a in range(0, 360, 30)]))
        assert (ring - rep.colours(toward(pole, 0.0))).abs().max() < small


@both
def test_crops_show_what_the_whole_picture_shows(name):
    rep = build(name)
    whole, size = rep.equirectangular(600), 600
    towards = crops.directions(VIEWS, rep.height, rep.width)
    row = ((0.5 - towards[..., 2].asin() / math.pi) * size).floor().long()
    column = ((0.5 - torch.atan2(towards[..., 1], towards[..., 0]) / math.tau) * 2 * size).floor().long()
    seen = whole[:, row, column].movedim(0, 1)
    assert (rep.render(VIEWS) - seen).abs().max() < 0.05 * whole.std()


def test_the_picture_is_seen_from_inside_with_the_front_in_the_middle():
    class Compass(diffreps.SphereImage):
        def colours(self, directions):
            return directions

    whole = Compass(2, 2).double().equirectangular(90)
    assert whole.shape == (3, 90, 180)
    middle = whole[:, 44:46].mean(1)
    assert torch.allclose(middle[:, 89:91].mean(1), toward(0, 0), atol=1e-3)  # +x in the middle
    assert torch.allclose(middle[:, 44:46].mean(1), toward(0, 90), atol=1e-3)  # +y to the left
    assert whole[2, 0].min() > 0.99 and whole[2, -1].max() < -0.99  # up on top
    edges = whole[:, 44, [0, -1]]
    assert torch.allclose(edges.mean(1), toward(0, 180), atol=0.02)


def test_a_grid_shows_its_own_pixels_and_is_bilinear_between():
    grid, values = pixels()
    assert torch.allclose(grid.equirectangular(6), values, atol=1e-12)
    between = grid.colours(toward(15, -15 / 2))  # from the centres: half a row down, a quarter of a column right
    rows = values[:, 2:4]
    expected = torch.tensor(0.0, dtype=D)
    column = (0.5 + 7.5 / 360) * 12 - 0.5
    for i, weight in ((5, 6 - column), (6, column - 5)):
        row = (0.5 - 15 / 180) * 6 - 0.5
        expected = expected + weight * ((3 - row) * rows[:, 0, i] + (row - 2) * rows[:, 1, i])
    assert torch.allclose(between, expected, atol=1e-9)


def test_the_pole_of_a_grid_is_the_mean_of_the_row_around_it():
    grid, values = pixels()
    assert torch.allclose(grid.colours(toward(90, 33)), values[:, 0].mean(1), atol=1e-9)
    assert torch.allclose(grid.colours(toward(-90, 33)), values[:, -1].mean(1), atol=1e-9)


@pytest.mark.parametrize("make", [
    lambda: diffreps.Panorama(3, 0, 4), lambda: diffreps.Panorama(3, 4, 4, hidden=0),
    lambda: diffreps.EquirectangularGrid(3, 4, 4, 0), lambda: crops.cover(90.0, 0.1), lambda: crops.cover(180.0),
    lambda: crops.RandomCrops(0), lambda: crops.RandomCrops(fovy=(90.0, 60.0)),
    lambda: crops.RandomCrops(elevation=(-95.0, 0.0)), lambda: build("grid").render(torch.zeros(2, 4, 4)),
])  # fmt: skip
def test_impossible_values_are_refused(make):
    with pytest.raises(UserError):
        make()


# ---- the world


@pytest.fixture(scope="module")
def world():
    return exact_worlds.world("panorama")


def test_scenes_lie_well_apart_and_look_different_all_round(world):
    images = world.images(world.held_out).flatten(1)
    distance = torch.cdist(images, images) / math.sqrt(images.shape[1])
    assert distance.fill_diagonal_(math.inf).min() > 4 * BLEND
    level = crops.look(torch.zeros(2), torch.tensor([24.0, 24.0 + 120.0]), scenes.FOVY)
    front, other = world.images(level).unbind(1)
    assert (front - other).square().flatten(1).mean(1).sqrt().min() > 0.1  # the hues


def test_what_a_crop_tells_of_the_scene(world):
    def apart(elevation):
        image = world.images(crops.look(torch.tensor([elevation]), torch.tensor([40.0]), scenes.FOVY))[:, 0].flatten(1)
        distance = torch.cdist(image, image) / math.sqrt(image.shape[1])
        return distance.fill_diagonal_(math.inf)

    assert apart(0.0).min() > 0.15
    above = apart(90.0)
    same = torch.tensor([[a["sky"] == b["sky"] for b in world.labels] for a in world.labels]).fill_diagonal_(False)
    assert above[same].max() < 0.03 and above[~same].min() > 0.5


def test_no_sky_and_no_shape_is_nearer_to_the_mean(world):
    views = crops.RandomCrops(64, (scenes.FOVY, scenes.FOVY))(seeded(0))
    images = world.images(views).flatten(1)
    rms = (images - images.mean(0)).square().mean(1).sqrt()
    assert float(rms.std() / rms.mean()) < 0.01


def test_a_scene_is_known_by_formula(world):
    scene = scenes.Exact({"shape": "up", "sky": "red"}).double()
    up, between, down = scene.colours(torch.stack([toward(80, 3), toward(0, scenes.FIRST + 30), toward(-80, 3)]))
    assert torch.allclose(up, torch.tensor((0.6, -0.6, -0.6), dtype=D), atol=1e-6)
    assert torch.allclose(down, torch.tensor((-0.6, 0.6, -0.6), dtype=D), atol=1e-6)
    assert torch.allclose(between, torch.full((3,), -0.6, dtype=D), atol=1e-2)  # between two arrowheads
    # beside the point it is dark, beside the base bright; azimuth grows to the left
    near = {"up": (15, 9), "down": (-15, 9), "left": (9, 15), "right": (9, -15)}
    for shape, (elevation, azimuth) in near.items():
        scene = scenes.Exact({"shape": shape, "sky": "red"}).double()
        point, base = (scene.colours(toward(k * elevation if shape in ("up", "down") else elevation, scenes.FIRST + (
            azimuth if shape in ("up", "down") else k * azimuth))) for k in (1, -1))  # fmt: skip
        assert point.mean() < -0.5 < 0.2 < base.mean(), shape
    views = crops.RandomCrops()(seeded(0))
    assert torch.allclose(world.images(views)[5], scenes.Exact(world.labels[5]).render(views), atol=1e-6)


def test_the_seam_of_a_scene_is_none_and_a_torn_one_shows():
    for label in scenes.labels():
        assert 0.9 < scenes.seam(scenes.Exact(label)) < 1.1

    class Torn(scenes.Exact):
        def colours(self, directions):
            return super().colours(directions) + 0.02 * torch.atan2(directions[..., 1:2], directions[..., :1])

    assert scenes.seam(Torn(scenes.labels()[0])) > 3


def test_a_true_panorama_is_judged_right_and_a_blend_is_one(world):
    for seed in range(3):
        row = world.judge(world.perfect(seeded(seed)))
        expected = int(torch.multinomial(world.weights, 1, generator=seeded(seed)))
        assert row["scene"] == expected and row["rms"] < 1e-6 and row["consistent"] and not row["blend"]
        assert row["seam"] == row["seam exact"]
    json.dumps(row)

    class Half(scenes.Exact):
        def colours(self, directions):
            east = directions[..., 1:2] > 0
            return torch.where(east, *(scenes.colours([world.labels[k]], directions)[0] for k in (2, 9)))

    row = world.judge(Half(world.labels[0]))
    assert row["blend"] and not row["consistent"] and {2, 9} <= set(row["per_view"])


def test_the_start_is_a_blend_and_the_field_can_hold_a_scene(world):
    field, generator = world.diffrep(), seeded(0)
    assert world.judge(field)["blend"]
    optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
    for _ in range(150):
        views = world.views(generator)
        optimizer.zero_grad()
        (field.render(views) - world.images(views)[6]).square().mean().backward()
        optimizer.step()
    row = world.judge(field)
    assert row["scene"] == 6 and not row["blend"] and row["seam"] < 1.1


# ---- MultiDiffusion


def one_scene(label):
    return pullback.priors.SceneMixture(
        lambda views: scenes.colours([label], crops.directions(views, scenes.SIZE, scenes.SIZE)).movedim(-1, 2), 0.01
    )


def test_multidiffusion_in_a_world_of_one_scene_returns_it(world):
    grid = diffreps.EquirectangularGrid(3, scenes.SIZE, scenes.SIZE, scenes.RESOLUTION)
    label = world.labels[4]
    result = multidiffusion.sample(
        grid, world.cameras, one_scene(label).denoise, world.sigmas(8, 80.0), generator=seeded(0)
    )
    assert result.nfe == 8 * len(world.cameras["c2w"])
    row = world.judge(grid)
    assert row["scene"] == 4 and not row["blend"] and row["seam"] < 1.1


def test_averaging_cut_outs_is_their_mean_pixel_by_pixel():
    class CutOuts(torch.nn.Module):
        """The source's own case: windows [V] of 4 columns of a flat image, from the column that a view names."""

        def __init__(self):
            super().__init__()
            self.image = torch.nn.Parameter(torch.randn(1, 2, 8, generator=seeded(0)))

        def render(self, views):
            return torch.stack([self.image[:, :, k : k + 4] for k in views])

    flat = CutOuts()
    before, target = flat.image.detach().clone(), torch.randn(2, 1, 2, 4, generator=seeded(1))
    multidiffusion.Averaging().solve(Fit(flat, [0, 2], target, None, seeded(0)))
    assert torch.allclose(flat.image[..., :2], target[0, ..., :2])
    assert torch.allclose(flat.image[..., 2:4], (target[0, ..., 2:] + target[1, ..., :2]) / 2)
    assert torch.allclose(flat.image[..., 4:6], target[1, ..., 2:])
    assert torch.equal(flat.image[..., 6:], before[..., 6:])


def test_the_method_multidiffusion_counts_its_calls_and_is_for_panoramas(world):
    outcome = methods.parse("multidiffusion levels=2")(world, 0)
    assert outcome.nfe == 2 * len(world.cameras["c2w"]) and next(outcome.diffrep.parameters()).abs().max() > 0.1
    fresh = methods.parse("multidiffusion levels=2 crops=fresh")(world, 0)
    assert fresh.nfe == 2 * 8
    with pytest.raises(UserError, match="panorama-grid"):
        methods.parse("multidiffusion")(exact_worlds.world("shapes"), 0)
    with pytest.raises(UserError, match="fixed or fresh"):
        methods.parse("multidiffusion crops=all")(world, 0)
