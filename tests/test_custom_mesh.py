"""`custom-mesh`: where threestudio puts a mesh, what of it is seen, and what is said of bad ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback.diffreps import orbit
from pullback.errors import UserError
from pullback.host.parts import load_parts
from pullback.host.registry import find
from pullback.views.cameras import camera_batch

load_parts()
WAVES = {"otype": "Frequency", "n_frequencies": 1}
CORNERS = [[0, 0, 0], [4, 0, 0], [0, 2, 0], [0, 0, 1]]
FACES = [[1, 3, 2], [1, 2, 4], [1, 4, 3], [2, 3, 4]]


def obj(folder: Path, corners: Any = CORNERS, faces: Any = FACES) -> Path:
    lines = [f"v {x} {y} {z}" for x, y, z in corners] + ["f " + " ".join(str(n) for n in face) for face in faces]
    (folder / "mesh.obj").write_text("\n".join(lines) + "\n")
    return folder / "mesh.obj"


def geometry(file: Path | str, **cfg: Any) -> Any:
    return find("custom-mesh")(
        {"shape_init": f"mesh:{file}", "shape_init_params": 0.6, "pos_encoding_config": WAVES, **cfg}
    )


def corners_of(mesh: Any) -> torch.Tensor:
    """The corners of the faces, in an order of their own."""
    flat = mesh.v_pos[mesh.t_pos_idx].view(-1, 3)
    return torch.tensor(sorted(flat.tolist()))


def test_the_mesh_lies_where_threestudio_puts_it(tmp_path: Path) -> None:
    """The mean of the vertices at the origin, the farthest coordinate at shape_init_params, the axes turned."""
    about = torch.tensor(CORNERS, dtype=torch.float64)
    about = 0.6 * (about - about.mean(0)) / 3  # the farthest is x = 4, its mean 1
    about = about[torch.tensor(FACES) - 1].view(-1, 3)
    ways = {("+z", "+x"): [0, 1, 2], ("+y", "+z"): [2, 0, 1]}  # the file's axes that become x, y, z
    for (up, front), axes in ways.items():
        made = geometry(obj(tmp_path), shape_init_mesh_up=up, shape_init_mesh_front=front)
        expected = torch.tensor(sorted(about[:, axes].tolist()))
        torch.testing.assert_close(corners_of(made.surface()), expected, atol=1e-6, rtol=0)
    turned = geometry(obj(tmp_path), shape_init_mesh_up="-z", shape_init_mesh_front="+x").isosurface()
    torch.testing.assert_close(turned.v_pos.amin(0)[1:], -torch.tensor([0.3, 0.15]))
    a, b, c = turned.v_pos[turned.t_pos_idx].unbind(1)  # still counter-clockwise from outside: no mirror
    assert float((a * torch.linalg.cross(b, c)).sum() / 6) == pytest.approx(8 / 6 * 0.2**3, rel=1e-5)


def test_corners_of_one_place_are_one_vertex_and_it_has_no_parameters(tmp_path: Path) -> None:
    apart = [CORNERS[n - 1] for face in FACES for n in face]
    made = geometry(obj(tmp_path, [*apart, [9, 9, 9]], [[3 * i + 1, 3 * i + 2, 3 * i + 3] for i in range(4)]))
    whole = geometry(obj(tmp_path))
    assert len(made.surface().v_pos) == 4
    torch.testing.assert_close(corners_of(made.surface()), corners_of(whole.surface()))
    assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"feature_network"}
    assert {"bbox", "v_buffer", "t_buffer"} <= made.state_dict().keys()


def test_what_is_seen_is_the_mesh_in_the_colours_of_its_features(tmp_path: Path) -> None:
    """A square 1 × 1 that faces the camera from 2.5: its area, and its colours where rays meet it."""
    square = [[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]]
    made = geometry(obj(tmp_path, square, [[1, 2, 3], [1, 3, 4]]), shape_init_params=0.5)
    parts = {"material": find("no-material")({}), "background": find("solid-color-background")({"color": [1.0] * 3})}
    poses = orbit(torch.zeros(1), torch.zeros(1), 2.5)
    batch: dict[str, Any] = camera_batch(poses, torch.full((1,), 0.6), 32, 32)
    with torch.no_grad():
        out = find("nvdiff-rasterizer")({"samples": 2}, geometry=made, **parts)(
            **batch, light_positions=batch["camera_positions"], height=32, width=32
        )
        features = made(torch.zeros(1, 3) + torch.tensor([0.0, 0.02, 0.02]))["features"]
        colour = parts["material"](features=features)
    assert float(out["opacity"].mean()) == pytest.approx((0.5 / (2.5 * math.tan(0.3))) ** 2, rel=0.02)
    torch.testing.assert_close(out["comp_rgb"][0, 14:18, 14:18].mean((0, 1)), colour[0], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"shape_init": ""}, "`shape_init` must be mesh:PATH, the path of a glb, obj or ply, not ''"),
        ({"shape_init": "sphere"}, "`shape_init` must be mesh:PATH"),
        ({"shape_init_params": None}, "`shape_init_params` must be a number above 0 and at most the radius, 1.0, not"),
        ({"shape_init_params": 1.5}, "`shape_init_params` must be a number above 0 and at most the radius"),
        ({"shape_init_mesh_up": "z"}, "`shape_init_mesh_up` must be one of"),
        ({"shape_init_mesh_up": "-x"}, "`shape_init_mesh_front` must be another axis than shape_init_mesh_up, -x"),
        ({"shape_init": "mesh:nowhere.obj"}, "`shape_init`: there is no file nowhere.obj"),
        ({"shape_init": "mesh:a.stl"}, "`shape_init`: a.stl is no mesh that can be read"),
    ],
)
def test_bad_configs_are_said(cfg: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        geometry(obj(tmp_path), **cfg)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_bad_meshes_are_said(tmp_path: Path) -> None:
    for corners, faces, words in (
        (CORNERS, [], "has no faces"),
        ([["nan", 0, 0], *CORNERS[1:]], FACES, "1 vertices that are not finite"),
        (CORNERS, [[1, 1, 2]], "no face with an area"),
    ):
        with pytest.raises(UserError, match=f"`shape_init`: .*mesh.obj.* {words}|{words}"):
            geometry(obj(tmp_path, corners, faces))
