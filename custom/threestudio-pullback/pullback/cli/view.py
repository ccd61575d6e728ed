"""`pullback view`: a run, a mesh or a panorama in a browser."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, first_line
from ..host.arguments import add_import, add_view

if TYPE_CHECKING:  # they need packages that `pullback --help` does without
    import numpy as np
    from torch import Tensor

    from ..host.live.server import Draw, Screens

EXAMPLES = """examples:
  pullback view outputs/demo/a-red-cube-…                         the field of a run, at each of its checkpoints
  pullback view RUN/save/it60-export/model.glb
  pullback view RUN/save/it24-whole/panorama.png --view 0.0.0.0:8080   for other machines too

It needs viser, pip install "threestudio-pullback[view]", and no network. Ctrl-C ends it."""
MESHES, PICTURES = (".glb", ".obj", ".ply"), (".png", ".jpg", ".jpeg", ".webp")
UPRIGHT = (0.5, 0.5, 0.5, 0.5)
"""The rotation, w first, from a file with y up and its front at +z to a world with z up and its front at +x."""


def add_command(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    parser = commands.add_parser("view", help="look at a run, a mesh or a panorama in a browser", epilog=EXAMPLES)
    parser.add_argument("path", type=Path, metavar="RUN|MESH|PANORAMA", help="folder of a run, or a file that it wrote")
    add_view(parser, "where to show it")
    add_import(parser)
    parser.set_defaults(run=run_view)


def run_view(args: argparse.Namespace) -> int:
    """Shows it until Ctrl-C."""
    from ..host.live.server import address_of, close_server, open_server

    show = _shower(args.path, args.imports)
    server = open_server(args.view or "")
    screens = show(server)
    print(f"Look at {address_of(server)}; Ctrl-C ends it", flush=True)
    try:
        while True:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        if screens is not None:
            screens.close()
        close_server(server)


def _shower(path: Path, imports: list[str]) -> Any:
    """What shows a path on a server, checked before the server starts."""
    if path.is_dir():
        from ..host import record

        run = record.read(path)
        if run.picture is not None and (run.panorama or not (path / "ckpts" / "last.ckpt").is_file()):
            return _shower(run.picture, imports)
        return _field(path, imports)
    if not path.is_file():
        raise UserError(f"there is no {path}; give the folder of a run, a mesh or a panorama")
    if path.suffix.lower() in MESHES:
        return _mesh(path)
    if path.suffix.lower() in PICTURES:
        return _panorama(path)
    raise UserError(f"{path} is no run, no mesh ({', '.join(MESHES)}) and no picture ({', '.join(PICTURES)})")


def _mesh(path: Path) -> Any:
    """A mesh, by viser itself."""
    if path.suffix.lower() == ".glb":
        content = path.read_bytes()
        if not content.startswith(b"glTF"):
            raise UserError(f"{path} is damaged and no glb; export it again")
        return lambda server: server.scene.add_glb("/mesh", content, wxyz=UPRIGHT) and None
    loaded = read_mesh(path)
    turn = UPRIGHT if path.suffix.lower() == ".obj" else (1.0, 0.0, 0.0, 0.0)
    return lambda server: server.scene.add_mesh_trimesh("/mesh", loaded, wxyz=turn) and None


def read_mesh(path: Path) -> Any:
    """An obj or a ply as trimesh's; a material and a texture are read from the mesh's own folder alone.

    Raises:
        UserError: It is no mesh.
    """
    import trimesh
    from trimesh.resolvers import FilePathResolver

    class Beside(FilePathResolver):
        def get(self, name: str) -> bytes:
            return super().get(Path(name).name)

    try:
        with path.open("rb") as file:
            loaded: Any = trimesh.load(
                file, file_type=path.suffix.lower()[1:], force="mesh", resolver=Beside(str(path))
            )
        assert len(loaded.faces)
    except Exception as e:
        raise UserError(f"{path} is no mesh that can be read: {type(e).__name__}: {first_line(e)}") from e
    return loaded


def _panorama(path: Path) -> Any:
    """A panorama from its middle; the camera's place does not count."""
    import numpy as np
    import torch
    from PIL import Image

    from ..host.live.server import Screens

    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0) / 127.5 - 1
    if pixels.shape[2] != 2 * pixels.shape[1]:
        raise UserError(f"{path} is no panorama, a picture twice as wide as high; any viewer of pictures shows it")

    def show(server: Any) -> Screens:
        server.initial_camera.position, server.initial_camera.look_at = (-1.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        return Screens(server, inside(pixels))

    return show


def inside(pixels: Tensor) -> Draw:
    """What a camera sees of a panorama [3,H,2H] in [-1,1] from its middle, wherever the camera stands."""
    from math import atan2, degrees, hypot

    from ..output import panorama_files

    def draw(c2w: Tensor, fovy: float, height: int, width: int) -> np.ndarray:
        x, y, z = (-c2w[:3, 2]).tolist()
        azimuth, elevation = degrees(atan2(y, x)), degrees(atan2(z, hypot(x, y)))
        view = panorama_files.look(pixels, azimuth, elevation, degrees(fovy), height, width)
        return ((view + 1) * 127.5).round().clamp(0, 255).byte().movedim(0, -1).numpy()

    return draw


def _field(path: Path, imports: list[str]) -> Any:
    """The field of a run at each checkpoint."""
    from ..evaluate.saved_run import SavedRun
    from ..host.live.scene import SceneCopy, state_of
    from ..host.live.server import Screens

    run = SavedRun(path, imports)
    run.load()
    scene, wanted = SceneCopy(run.system), [state_of(run.system)]
    files = [*run.checkpoints(), path / "ckpts" / "last.ckpt"]

    def draw(c2w: Tensor, fovy: float, height: int, width: int) -> np.ndarray:
        if wanted:
            scene.load(wanted.pop())
        return scene.draw(c2w, fovy, height, width)

    def show(server: Any) -> Screens:
        distance = run.distance
        server.initial_camera.position = (1.4 * distance, 0.0, 0.5 * distance)
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        says = server.gui.add_markdown(f"step {run.step}")
        slider = server.gui.add_slider("Checkpoint", 1, max(2, len(files)), 1, len(files), disabled=len(files) < 2)
        screens = Screens(server, draw)

        def choose(_: Any) -> None:
            says.content = f"step {run.load(files[int(slider.value) - 1])}"
            wanted[:] = [state_of(run.system)]
            screens.again()

        slider.on_update(choose)
        return screens

    return show
