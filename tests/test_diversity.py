"""`pullback evaluate diversity`: the studio's field and words, methods as text, the tables, and where a run goes on."""

from __future__ import annotations

import json
import math
import shlex

import pytest
import torch
from PIL import Image
from pullback import cli, noise
from pullback.errors import UserError
from pullback.evaluate import diversity
from pullback.evaluate.diversity import campaign as diversity_campaign
from pullback.evaluate.diversity import report as diversity_report
from pullback.evaluate.diversity.campaign import results_of
from pullback.evaluate.studio import around, naming
from pullback.evaluate.studio import field as studio
from pullback.evaluate.studio import world as worlds


def test_an_empty_field_shows_the_studios_backdrop():
    views = studio.cameras(torch.Generator().manual_seed(0), 3)
    field = studio.StudioField(resolution=4)
    with torch.no_grad():
        field.density.fill_(-60.0)
    backdrop = worlds.backdrop(worlds.camera_rays(views, studio.SIZE)[1]).movedim(-1, 1) * 2 - 1
    assert torch.allclose(field.render(views), backdrop, atol=1e-5)
    field.plain = True
    assert torch.allclose(field.render(views), torch.full_like(backdrop, 2 * around.GREY - 1), atol=1e-5)


def test_a_field_filled_with_a_box_is_seen_where_the_box_is():
    # a dense slab x > 0.25 BOX of one colour: seen from +x it hides all behind it, its front face a square
    field = studio.StudioField(resolution=33, samples=200)
    axis = torch.linspace(-1, 1, 33)
    inside = (axis > 0.25)[:, None, None].expand(33, 33, 33).reshape(-1, 1)
    with torch.no_grad():
        field.density.copy_(torch.where(inside, 40.0, -60.0))
        field.colour.copy_(torch.tensor([1.0, -2.0, 0.5]).expand(33**3, 3))
        (picture,) = field.render(worlds.look_at(torch.tensor([0.0]), torch.tensor([0.0])))
    edge = studio.BOX / (worlds.CAMERA_DISTANCE - studio.BOX) / math.tan(math.radians(worlds.FOVY_DEG / 2))
    assert edge > 1  # the face fills the picture
    assert torch.allclose(picture, torch.tensor([1.0, -2.0, 0.5]).tanh()[:, None, None].expand(3, 64, 64), atol=1e-4)


def test_the_lookup_is_the_voxel_fields_own():
    field = studio.StudioField(resolution=5)
    points = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    grid = torch.randn(125, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        field._lookup(points, grid), super(studio.StudioField, field)._lookup(points, grid), atol=1e-5
    )


def test_the_residual_estimates_the_whole_difference():
    views, generator = studio.cameras(torch.Generator().manual_seed(0), 4), torch.Generator().manual_seed(1)
    field, target = studio.StudioField(resolution=6, rays=4096), torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        whole = (field.render(views) - target).square()
        part = field.residual(views, target, generator).square()
    assert part.shape == (4, 1024, 3)
    assert abs(part.mean() - whole.mean()) < 5 * whole.std() / math.sqrt(part.numel() / 3)


def test_cameras_are_all_round_and_know_their_words():
    views = studio.cameras(torch.Generator().manual_seed(0), 800)
    assert torch.allclose(views[:, :3, 3].norm(dim=1), torch.tensor(worlds.CAMERA_DISTANCE))
    words = studio.view_words(views)
    # front and back are a quarter turn each, the sides half of all; never above 60°
    assert [words.count(w) for w in ("front", "side", "back", "overhead")] == [200, 400, 200, 0]


def test_widening_cameras_begin_at_one_place_and_end_all_round():
    generator = torch.Generator().manual_seed(3)
    views = studio.Widening(count=8, visits=10)
    drawn = [views(generator)[:, :3, 3] / worlds.CAMERA_DISTANCE for _ in range(12)]
    spread = [1 - float(d.mean(0).norm()) for d in drawn]
    assert spread[0] < 1e-6 and spread[3] < spread[9] and spread[10] > 0.3
    assert sorted(math.floor(math.degrees(math.atan2(y, x)) % 360 / 45) for x, y, _ in drawn[11].tolist()) == [
        *range(8)
    ]


def test_a_method_is_read_as_it_is_written():
    text = "pullback guidance=2.5 noise=fresh steps=30"
    assert studio.parse(text).label == text and studio.parse(text).guidance == 2.5
    assert studio.parse("sds lr=0.03").name == "sds"
    coupling = studio.parse("pullback noise=0.7+0.3").coupling()
    assert isinstance(coupling, noise.Smooth) and coupling.weights == (0.7, 0.3)


@pytest.mark.parametrize("text", ["sdss", "pullback lr=x", "pullback size=3", "pullback noise=loud"])
def test_a_method_that_is_none_is_named(text: str):
    with pytest.raises(UserError, match="loud" if "loud" in text else text.split()[-1]):
        studio.parse(text)


def test_prompts_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match="everything"):
        diversity.evaluate("model", "everything", ["pullback"], [0], 4, tmp_path, 1)


def row(prompt: str, seed: int, found: str) -> dict:
    costs = {"psnr": 20.0, "consistency": 0.1, "threshold": 0.1, "nfe": 320, "seconds": 20.0, "commit": "c"}
    return {"prompt": prompt, "method": "pullback", "seed": seed, "nearest": found, "pictured": found, **costs}


def test_tables_of_known_rows(tmp_path):
    results = results_of(tmp_path, "folder/tiny-sd")
    two = "a cube with a red front and a blue back"
    results.data["flat"]["a cube"] = ["a red cube"] * 30 + ["a blue cube"] * 10 + [two] * 2
    results.rows += [row("a cube", i, "a red sphere" if i < 5 else "a blue cube") for i in range(20)]
    lines = diversity_report.partial_table("a cube", results, ["pullback"]).splitlines()
    cells = {name: dict(zip(*(x.strip("|").split("|") for x in (lines[0], line)), strict=True)) for name, line in
             (("flat", lines[2]), ("nerf", lines[3]))}  # fmt: skip
    assert (cells["flat"][" red "], cells["flat"][" several colours "], cells["nerf"][" red "]) == (
        " 30 ",
        " 2 ",
        " 5 ",
    )
    assert cells["nerf"][" as asked "] == " 15 " and float(cells["nerf"][" χ² p "]) < 1e-3
    results.rows += [row(two, 0, two), row(two, 1, "a sphere with a red front and a blue back")]
    results.rows += [row(two, 2, "a cube with a blue front and a red back")]
    last = diversity_report.coloured_table([two], results, "pullback").splitlines()[-1]
    assert last.startswith("| all, pullback | 3 | 2 | 2 | 2 | 2 |")


def test_what_is_done_is_found_again(tmp_path):
    first = results_of(tmp_path, "folder/tiny-sd")
    first.rows.append(row("a cube", 3, "a red cube"))
    first.data["flat"]["a cube"] = ["a red cube"] * 2
    first.save()
    again = diversity_campaign.run("other/tiny-sd", ["a cube"], ["pullback"], [3], 2, tmp_path, 1)
    assert again.rows == first.rows and json.loads(again.file.read_text())["flat"] == first.data["flat"]
    with pytest.raises(UserError, match="another folder"):
        results_of(tmp_path, "folder/large-sd")


def test_exact_pictures_are_the_objects_own_nearest():
    views = studio.cameras(torch.Generator().manual_seed(0), 2)
    obj = worlds.StudioObject("torus", "blue", "yellow")
    pictures = worlds.render(obj, views)
    assert naming.nearest_object(pictures, views).obj == obj
    buffers = naming.exact_buffers(views, 64)
    assert naming.nearest_object(pictures, views, buffers) == naming.nearest_object(pictures, views)


def test_the_command_in_the_report_makes_the_same_report(tmp_path):
    """One sample, and pictures that the folder has: the command of the report, run as it stands, changes no byte."""
    model = "other/tiny-sd"
    results = results_of(tmp_path, model)
    results.rows.append(row("a cube with a red front and a blue back", 3, "a red cube"))
    results.save()
    prompt = "a cube with a red front and a blue back"
    picture = diversity_campaign.picture_of(tmp_path, prompt, "pullback", 3)
    picture.parent.mkdir()
    Image.new("RGB", (64, 64)).save(picture)
    text = diversity.evaluate(model, prompt, ["pullback"], [3], 7, tmp_path, 1)
    words = shlex.split(text.split("`")[1])
    args = cli.build_parser().parse_args(words[1:])
    assert (words[0], args.model, args.pictures, args.out, args.seeds) == ("pullback", model, 7, tmp_path, [3])
    (tmp_path / "diversity.md").unlink()
    assert cli.main(words[1:]) == 0
    assert (tmp_path / "diversity.md").read_text() == text
