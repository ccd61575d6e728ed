"""A panorama as files: a picture that viewers know as one, a cube map, a turning video, a page to look around in.

A panorama is an equirectangular picture [3,H,2H] in [−1, 1] seen from inside, in a world with x forward, y left and z
up: the middle column looks along +x (azimuth 0), azimuth grows to the left of the picture, row 0 is the zenith.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, check_finite
from ..views import crops
from . import video, webpage, whole
from .pictures import png_info, save_image, to_image

HERE = Path(__file__).parent
# name: azimuth and elevation in degrees; the order of the files' documentation
FACES = {
    "front": (0.0, 0.0),
    "left": (90.0, 0.0),
    "back": (180.0, 0.0),
    "right": (-90.0, 0.0),
    "up": (0.0, 90.0),
    "down": (0.0, -90.0),
}
HELP = "Drag or use the arrow keys to look around, the wheel or + and − to zoom, Home to go back to the start."
CROSS = [[None, "up", None, None], ["left", "front", "right", "back"], [None, "down", None, None]]


def save_all(
    folder: Path | str, equirect: Tensor, title: str = "Panorama", about: Mapping[str, Any] | None = None
) -> list[Path]:
    """Every file of this module in the folder, which is made: panorama.png, .mp4 and .html, cubemap.png and cubemap/.

    Args:
        folder: of the files.
        equirect: the panorama.
        title: of the page.
        about: metadata of the picture and of the video; see `video.save_video`.

    Returns:
        The four files' paths.

    Raises:
        UserError: equirect is not [3,H,2H], or a file cannot be written whole.
        NonFiniteError: it has a NaN.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        save_png(folder / "panorama.png", equirect, about),
        save_cube_map(folder / "cubemap.png", equirect),
        save_video(folder / "panorama.mp4", equirect, about=about),
        save_viewer(folder / "panorama.html", equirect, title),
    ]


def save_png(path: Path | str, equirect: Tensor, about: Mapping[str, Any] | None = None) -> Path:
    """The picture as it is, 8 bits a channel, with the metadata by which viewers know a full panorama.

    Source: XMP packet in an iTXt chunk (Adobe XMP, part 3, 1.1.5), properties of Google's Photo Sphere XMP metadata.
    """
    path = Path(path)
    whole.write(path, _png(equirect, about))
    return path


def save_cube_map(path: Path | str, equirect: Tensor) -> Path:
    """A cross of six square faces of 90°, H/2 pixels wide, and each face in a folder of the path's name.

    The cross's rows are up; left, front, right, back; down, with black corners; faces that touch in it continue each
    other. front looks along +x, left along +y, up along +z with the front below it, down along −z with it above.
    """
    path = Path(path)
    parts = path.with_suffix("")
    parts.mkdir(exist_ok=True)
    size = max(1, _check(equirect).shape[1] // 2)
    faces = {name: look(equirect, *towards, 90.0, size, size) for name, towards in FACES.items()}
    corner = torch.full_like(faces["front"], -1.0)
    cross = torch.cat([torch.cat([faces[n] if n else corner for n in row], 2) for row in CROSS], 1)
    for file, picture in [(path, cross), *((parts / f"{name}.png", face) for name, face in faces.items())]:
        save_image(file, to_image(picture))
    return path


def save_video(
    path: Path | str,
    equirect: Tensor,
    seconds: float = 6.0,
    fps: int = 24,
    width: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """One turn to the right from the front, at eye level, 90° wide and 16:9; the last frame joins up with the first.

    Args:
        path: of the mp4.
        equirect: the panorama.
        seconds: of the turn.
        fps: frames a second.
        width: in pixels; by default H, which shows what the picture holds, but 320 to 1280.
        about: metadata; see `video.save_video`.

    Raises:
        UserError: no frames, a width below 4, or the video could not be written whole.
    """
    width = width or min(max(_check(equirect).shape[1], 320), 1280)
    path, count = Path(path), round(seconds * fps)
    if count < 1 or width < 4:
        raise UserError(f"a video takes one frame and 4 pixels at least, not {count} frames {width} pixels wide")
    width, height = width // 2 * 2, width * 9 // 32 * 2  # players want even sizes
    fovy = math.degrees(2 * math.atan(height / width))
    views = (look(equirect, -360 * i / count, 0.0, fovy, height, width) for i in range(count))
    video.save_video(path, [np.asarray(to_image(view)) for view in views], fps, about)
    return path


def save_viewer(path: Path | str, equirect: Tensor, title: str = "Panorama") -> Path:
    """One page that shows the panorama from its middle, turned by mouse, touch and keys; needs no network.

    Raises:
        UserError: Jinja is not installed.
    """
    picture = webpage.picture(_png(equirect), "png")
    text = webpage.render(
        HERE, "panorama_files", "the panorama's page", {}, styles=[HERE / "stage.css"],
        title=title, picture=picture, help=HELP,
    )  # fmt: skip
    path = Path(path)
    whole.write(path, text)
    return path


def look(equirect: Tensor, azimuth: float, elevation: float, fovy: float, height: int, width: int) -> Tensor:
    """The crop [3,height,width] toward azimuth and elevation in degrees, fovy degrees high; see crops.look.

    Looks up bilinearly, across ±180° and the poles.

    Raises:
        UserError: fovy is outside (0, 180).
    """
    up, round_ = _check(equirect).new_tensor([[elevation], [azimuth]])
    towards = crops.directions(crops.look(up, round_, fovy), height, width)[0]
    x, y, z = towards.unbind(-1)
    _, rings, turn = equirect.shape
    # in pixels of a picture that goes on by one pixel on every side: round the back, and over the poles
    column = (0.5 - torch.atan2(y, x) / math.tau) * turn + 1
    row = (0.5 - torch.atan2(z, torch.hypot(x, y)) / math.pi) * rings + 1
    tall = torch.cat([equirect[:, :1].roll(rings, 2), equirect, equirect[:, -1:].roll(rings, 2)], 1)
    around = torch.cat([tall[:, :, -1:], tall, tall[:, :, :1]], 2)
    grid = torch.stack([2 * column / (turn + 2) - 1, 2 * row / (rings + 2) - 1], -1)
    return F.grid_sample(around[None], grid[None], align_corners=False)[0]


def _png(equirect: Tensor, about: Mapping[str, Any] | None = None) -> bytes:
    _, height, width = _check(equirect).shape
    properties = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "PoseHeadingDegrees": "0.0",
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "FullPanoWidthPixels": width,
        "FullPanoHeightPixels": height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
    }
    listed = " ".join(f"GPano:{name}={quoteattr(str(value))}" for name, value in properties.items())
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {listed}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
    info, content = png_info(about or {}), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", packet)
    to_image(equirect).save(content, "PNG", pnginfo=info)
    return content.getvalue()


def _check(equirect: Tensor) -> Tensor:
    if equirect.ndim != 3 or equirect.shape[0] != 3 or equirect.shape[2] != 2 * equirect.shape[1]:
        raise UserError(f"a panorama is a picture [3,H,2H], twice as wide as high, not {list(equirect.shape)}")
    return check_finite(equirect[None], "the panorama")[0]
