"""The ablation's worlds: every representation runs, and what must agree with one view and the identity does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback.evaluate import exact_worlds
from pullback.evaluate.exact_worlds import methods, runner
from pullback.fitting.linearise import FlatRender


@pytest.fixture(scope="module")
def ablation():
    """experiments/ablation.py, with the package's own worlds put back afterwards."""
    before, folder = dict(exact_worlds.WORLDS), str(Path(__file__).parents[1] / "experiments")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("ablation")
    finally:
        sys.path.remove(folder)
        for name in ("ablation", "representations"):
            sys.modules.pop(name, None)
        for name in set(exact_worlds.WORLDS) - set(before):
            del exact_worlds.WORLDS[name]


def sampled(world: str, options: str, seed: int = 0) -> Any:
    where = exact_worlds.world(world)
    return methods.parse(f"pullback {options}")(where, seed).diffrep


def render(world: str, options: str, seed: int = 0) -> torch.Tensor:
    where: Any = exact_worlds.world(world)
    with torch.no_grad():
        return sampled(world, options, seed).render(where.views)


@pytest.mark.parametrize("name", ["plane", "line", "gauss", "pixels", "linear", "siren", "voxel", "hash"])
def test_a_cell_of_each_part_runs_and_is_judged(ablation, name: str, tmp_path: Path):
    (part,) = [p for p in ablation.PARTS if p.name == name]
    *_, text = part.cells()[0]
    label = methods.parse(f"{text} levels=2 steps=1").label
    row = runner.run_one(runner.Task(part.worlds[0], label, 0), tmp_path)
    where = exact_worlds.world(part.worlds[0])
    found = where.measures([row["judged"]])
    assert found["samples"] == where.samples and set(found) & set(ablation.COLUMNS) > {"samples"}


def test_every_cell_is_a_method_that_says_what_it_does(ablation):
    for part in ablation.PARTS:
        for world, noise, way, text in part.cells():
            settings = methods.parse(text).settings(exact_worlds.world(world))
            assert settings["noise"] == noise and settings["order"] == 1
            assert settings["constraint"] == ("none" if way.startswith("none") else way.lower())
            assert settings["levels"] * settings["cycles"] in (part.levels, 3 * part.levels)


def test_what_is_refused_is_refused_for_the_noise(ablation):
    text = "pullback noise=shared constraint=langevin levels=20"
    assert "independent" in ablation.refusal("shapes-voxel-fixed", "shared", "Langevin", text)
    assert ablation.refusal("shapes-voxel-fixed", "shared", "none", "pullback noise=shared") is None


@pytest.mark.parametrize("world", ["mixture", "picture-pixels"])
def test_projection_with_the_identity_is_the_plain_flow(ablation, world: str):
    where: Any = exact_worlds.world(world)
    plain, projected = (
        sampled(world, f"noise=independent order=1 {extra}").render(where.views).detach()
        for extra in ("", "constraint=projection")
    )
    assert torch.allclose(plain, projected, atol=1e-4)


@pytest.mark.parametrize("options", ["", "constraint=repaint cycles=3", "constraint=projection"])
def test_points_of_the_plane_keep_their_weights_under_a_constraint(ablation, options: str):
    where: Any = exact_worlds.world("mixture")
    row = where.judge(sampled("mixture", f"noise=independent order=1 {options}"))
    # a perfect sampler stays below in 1 of 10 000 runs
    assert where.measures([row])["modes χ² p"] > 1e-4


def test_with_one_view_shared_noise_is_independent_noise(ablation):
    assert torch.equal(render("picture-pixels", "noise=shared"), render("picture-pixels", "noise=independent"))


def test_a_linear_range_that_holds_all_scenes_samples_as_pixels_do(ablation):
    pixels, linear = (render(f"picture-{kind}", "noise=independent", seed=3) for kind in ("pixels", "linear"))
    # off the span, pixels end with the noise of the prior, 0.01 at most
    assert (pixels - linear).square().mean().sqrt() < 0.01
    where: Any = exact_worlds.world("picture-linear")
    basis = where.diffrep().matrix.flatten(0, 2)
    assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-4)
    inside = where.images(where.views)[:, 0].flatten(1)
    assert torch.allclose(inside @ basis @ basis.T, inside, atol=1e-2)


def test_the_line_has_the_share_of_its_closed_form(ablation):
    where: Any = exact_worlds.world("line")
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    points = torch.stack([grid, torch.zeros_like(grid)], 1)
    density = (-torch.cdist(points, where.means.double()).square() / (2 * where.smoothing**2)).exp().sum(1)
    share = float(density[grid < 0].sum() / density.sum())
    found = where.measures([{"counts": [1, 0]}])
    assert found["share, exact"] == pytest.approx(share, abs=2e-3)
    assert found["modes TV"] == pytest.approx(1 - found["share, exact"])


def test_representations_start_alike_every_time(ablation):
    for world in ("picture-siren", "shapes-hash-fresh"):
        first, second = (exact_worlds.world(world).diffrep().state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_hash_field_has_forward_derivatives_and_their_adjoint(ablation):
    where: Any = exact_worlds.world("shapes-hash-fixed")
    function = FlatRender(where.diffrep(), where.views[:1])
    generator = torch.Generator().manual_seed(0)
    start = function.flat + 0.1 * torch.randn(function.flat.shape, generator=generator)
    image, push, pull = function.linearise(start)
    v = torch.randn(start.shape, generator=generator)
    w = torch.randn(image.shape, generator=generator)
    assert image.shape == (1, 3, 24, 24) and len(start) < 40_000
    assert float((push(v) * w).sum()) == pytest.approx(float(v @ pull(w)), rel=1e-3)


def test_the_table_shows_figures_and_refusals(ablation, tmp_path: Path):
    (part,) = [p for p in ablation.PARTS if p.name == "line"]
    chosen = [methods.parse(text) for *_, way, text in part.cells() if way in ("none", "Repaint")]
    runner.run(["line"], chosen, [0], tmp_path, 1)
    text = ablation.write(tmp_path)
    assert "| line | independent | Repaint |" in text and "| line | independent | TV 0." in text
    assert "Refused: Langevin with shared, Langevin with smooth, Langevin with surface: “" in text
    assert (tmp_path / "ablation.json").read_text().count('"commits"') == 4
