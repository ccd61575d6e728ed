"""The studio world: its pictures against geometry that is known."""

from __future__ import annotations

import math
import random

import pytest
import torch
from omegaconf import OmegaConf
from pullback.adapters.background import GradientBackground
from pullback.evaluate.studio import around, captions, naming
from pullback.evaluate.studio import world as worlds
from pullback.evaluate.studio.world import StudioObject
from pullback.output.pictures import psnr
from pullback.views import cameras as viewing


def cameras(n: int, seed: int = 0) -> torch.Tensor:
    u = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
    return worlds.look_at(u[:, 0] * 70, u[:, 1] * 360)


@pytest.mark.parametrize("shape", worlds.SHAPES)
def test_the_surface_lies_inside_the_bound_and_the_centre_of_the_solid_inside_it(shape):
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert (worlds.signed_distance(shape, directions * worlds.BOUND) > 0).all()
    inside = torch.tensor([[0.44, 0.0, 0.0]]) if shape == "torus" else torch.zeros(1, 3)
    assert worlds.signed_distance(shape, inside).item() < 0


@pytest.mark.parametrize("shape", worlds.SHAPES)
def test_a_signed_distance_is_never_larger_than_the_distance(shape):
    """A Lipschitz constant of 1 is what lets sphere tracing step without passing through the surface."""
    g = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 20000, 3, generator=g)
    change = (worlds.signed_distance(shape, a) - worlds.signed_distance(shape, b)).abs()
    assert (change <= (a - b).norm(dim=-1) * (1 + 1e-5) + 1e-6).all()


def test_a_sphere_covers_the_solid_angle_of_its_cone():
    """A ball of radius r at distance d is seen inside the angle asin(r/d): a disc of radius tan on the image plane."""
    c2w = worlds.look_at(torch.tensor([0.0, 30.0]), torch.tensor([0.0, 77.0]))
    cover = worlds.shading_buffers("sphere", c2w, size=128)[:, 2].mean((1, 2))
    tangent = math.tan(math.asin(0.56 / worlds.CAMERA_DISTANCE)) / math.tan(math.radians(worlds.FOVY_DEG / 2))
    assert torch.allclose(cover, torch.full_like(cover, math.pi * tangent**2 / 4), rtol=0.01)


def test_the_front_is_seen_from_the_front_and_the_back_from_the_back():
    obj = StudioObject("cube", "red", "blue")
    pictures = worlds.render(obj, worlds.look_at(torch.zeros(2), torch.tensor([0.0, 180.0])))
    middle = pictures[:, :, 28:36, 28:36].mean((2, 3))
    assert middle[0, 0] > middle[0, 2] and middle[1, 2] > middle[1, 0]


def test_views_are_named_by_threestudios_thresholds():
    names = [worlds.direction_name(10, a) for a in (0, 44, 46, 134, 136, 180, 226, 314, 316)]
    assert names == ["front", "front", "side", "side", "back", "back", "side", "side", "front"]
    assert worlds.direction_name(61, 0) == "overhead"


def test_the_worlds_cameras_are_the_hosts():
    elevation, azimuth = torch.tensor([0.0, 25.0, 80.0]), torch.tensor([10.0, -130.0, 300.0])
    position = viewing.on_sphere(elevation, azimuth, torch.full((3,), worlds.CAMERA_DISTANCE))
    up = torch.tensor([[0.0, 0.0, 1.0]])
    theirs = viewing.look_at(position, torch.zeros(3, 3), up.expand(3, 3))
    ours = worlds.look_at(elevation, azimuth)
    assert torch.allclose(ours, theirs, atol=1e-5)
    fovy = torch.full((3,), math.radians(worlds.FOVY_DEG))
    for a, b in zip(worlds.camera_rays(ours, 16), viewing.camera_rays(theirs, fovy, 16, 16), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_demo_config_has_the_worlds_backdrop_and_cameras():
    cfg = OmegaConf.load("configs/pullback-nerf-tiny.yaml")
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(3)), dim=1)
    background = GradientBackground(OmegaConf.to_container(cfg.system.background))
    assert torch.allclose(background(directions), worlds.backdrop(directions), atol=1e-6)
    assert list(cfg.data.camera_distance_range) == [worlds.CAMERA_DISTANCE] * 2
    assert list(cfg.data.fovy_range) == [worlds.FOVY_DEG] * 2


def test_captions_are_true_of_what_they_name():
    rng = random.Random(0)
    partial = 0
    for _ in range(2000):
        obj = captions.random_object(rng)
        text = captions.random_caption(obj, "side", rng)
        named = [c for c in worlds.COLORS if f" {c} " in f" {text} "]
        assert set(named) <= {obj.front, obj.back}
        assert obj.shape in text or "object" in text
        partial += obj.caption not in text
        if f"{obj.front} front" in text or f"{obj.back} back" in text:
            assert obj.front != obj.back
    # 0.5 · 0.30 + 0.5 · 0.20 = 0.25; three standard deviations of 2000 draws are 0.029
    assert abs(partial / 2000 - 0.25) < 0.03


@pytest.mark.parametrize("plain", [False, True])
def test_the_nearest_object_of_exact_renders_is_the_object_itself(plain: bool):
    rng, c2w = random.Random(4), cameras(6)
    background = around.backdrop(c2w, 64, True) if plain else None  # None: the studio's own
    for _ in range(6):
        obj = captions.random_object(rng)
        exact = worlds.render(obj, c2w, background=background)
        noisy = exact + 0.2 * torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(5))
        match = naming.nearest_object(noisy, c2w, background=background)
        assert match.obj == obj
        # the noise alone: 10 log10(4 / 0.2²) = 20 dB
        assert match.psnr == pytest.approx(20.0, abs=0.1)


def test_the_bank_names_pictures_taken_from_elsewhere():
    bank = naming.PictureBank(azimuths=12, elevations=(0, 20, 40, 60))
    rng = random.Random(6)
    objects = [captions.random_object(rng) for _ in range(40)]
    # from the side, where both colours show
    u = torch.rand(40, 2, generator=torch.Generator().manual_seed(7))
    pictures = torch.cat(
        [
            worlds.render(o, worlds.look_at(10 + 40 * u[i : i + 1, 0], 70 + 40 * u[i : i + 1, 1]))
            for i, o in enumerate(objects)
        ]
    )
    assert sum(f == o for f, o in zip(bank.name(pictures), objects, strict=True)) >= 39


def test_psnr_of_known_error():
    a = torch.zeros(2, 3, 8, 8)
    assert psnr(a, a + 0.02) == pytest.approx(40.0, abs=1e-4)
