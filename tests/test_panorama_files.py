"""A panorama's files: what is where in them, and that the page shows it."""

from __future__ import annotations

import io
import math
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from pullback.errors import NonFiniteError, UserError
from pullback.output import panorama_files
from test_report_page import BROWSERS
from torch import Tensor

GPANO = "{http://ns.google.com/photos/1.0/panorama/}"
AXES = {"front": (1, 0, 0), "left": (0, 1, 0), "back": (-1, 0, 0), "right": (0, -1, 0), "up": (0, 0, 1),
        "down": (0, 0, -1)}  # fmt: skip


def towards(height: int) -> Tensor:
    """The unit directions [H,2H,3] of an equirectangular picture's pixels, written down anew."""
    elevation = math.pi / 2 - (torch.arange(height) + 0.5) / height * math.pi
    azimuth = math.pi - (torch.arange(2 * height) + 0.5) / (2 * height) * 2 * math.pi
    e, a = torch.meshgrid(elevation, azimuth, indexing="ij")
    return torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], -1)


def globe(height: int = 64) -> Tensor:
    """Red grows along x, green along y, blue along z: a direction's colour is the direction."""
    return 0.9 * towards(height).movedim(-1, 0)


def quarters(height: int = 64) -> Tensor:
    """Front red, left green, back blue, right white, above yellow, below black."""
    colours = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1], [1, 1, -1], [-1, -1, -1]])
    axes = torch.tensor(list(AXES.values())).float()
    return colours[(towards(height) @ axes.T).argmax(-1)].movedim(-1, 0).float()


def noise(height: int = 16) -> Tensor:
    return 2 * torch.rand(3, height, 2 * height, generator=torch.Generator().manual_seed(0)) - 1


# ---- looking


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (90, 0), (180, 0), (-180, 20), (-90, -30), (10, 90), (0, -90)])
def test_a_view_shows_its_direction_with_left_on_the_left_and_up_on_top(azimuth: float, elevation: float) -> None:
    view = panorama_files.look(globe().double(), azimuth, elevation, 60, 33, 33) / 0.9
    a, e = math.radians(azimuth), math.radians(elevation)
    ahead = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=view.dtype)
    above = torch.tensor([-math.sin(e) * math.cos(a), -math.sin(e) * math.sin(a), math.cos(e)], dtype=view.dtype)
    left = torch.linalg.cross(above, ahead)  # of one who looks ahead
    assert torch.allclose(view[:, 16, 16], ahead, atol=5e-3)
    # 16 pixels of 33 from the middle of a view 60° wide
    off = math.tan(math.radians(30)) * 32 / 33
    for (row, column), side in {(16, 0): left, (16, 32): -left, (0, 16): above, (32, 16): -above}.items():
        seen = (ahead + off * side) / math.sqrt(1 + off**2)
        assert torch.allclose(view[:, row, column], seen, atol=5e-3)


def test_a_view_across_the_seam_and_the_poles_is_as_smooth_as_any() -> None:
    # a turned globe looks the same from a turned camera: no column is special
    picture, columns = noise(), 4
    turned = picture.roll(columns, 2)  # the scene turns right
    for elevation in (0.0, 90.0, -90.0):
        one = panorama_files.look(picture, 180.0, elevation, 70, 21, 21)
        two = panorama_files.look(turned, 180.0 - 360 * columns / 32, elevation, 70, 21, 21)
        assert torch.allclose(one, two, atol=1e-4)
    # a ring of constant brightness stays one where the view crosses the pole
    rings = towards(32)[..., 2].expand(3, -1, -1)
    pole = panorama_files.look(rings, 0.0, 90.0, 20, 20, 20)
    assert torch.allclose(pole, pole.flip(1), atol=1e-4) and torch.allclose(pole, pole.mT, atol=1e-4)


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    for shape in [(3, 4, 4), (1, 4, 8), (2, 3, 4, 8)]:
        with pytest.raises(UserError, match="twice as wide as high"):
            panorama_files.save_all(tmp_path, torch.zeros(shape))
    with pytest.raises(NonFiniteError):
        panorama_files.save_png(tmp_path / "a.png", torch.full((3, 4, 8), math.nan))
    with pytest.raises(UserError, match="fovy"):
        panorama_files.look(globe(), 0, 0, 180, 4, 4)
    with pytest.raises(UserError, match="one frame"):
        panorama_files.save_video(tmp_path / "a.mp4", globe(), seconds=0)
    assert not any(tmp_path.iterdir())


# ---- the picture


def test_the_picture_survives_with_metadata_before_its_pixels(tmp_path: Path) -> None:
    file = panorama_files.save_png(tmp_path / "a.png", noise())
    data = file.read_bytes()
    read = torch.tensor(np.asarray(Image.open(io.BytesIO(data)))).movedim(-1, 0)
    assert torch.equal(read, ((noise() + 1) * 127.5).round().byte())
    # the chunks as the PNG specification has them
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    names = [name for name, _ in chunks]
    assert names.count(b"iTXt") == 1 and names.index(b"iTXt") < names.index(b"IDAT")
    # keyword, not compressed, no language, no translation: Adobe XMP, part 3
    keyword, flags, packet = chunks[names.index(b"iTXt")][1].partition(b"\0\0\0\0\0")
    assert keyword == b"XML:com.adobe.xmp" and flags == b"\0\0\0\0\0"
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    root = ElementTree.fromstring(packet)
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    (described,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert {k.removeprefix(GPANO): v for k, v in described.attrib.items() if k.startswith(GPANO)} == {
        "ProjectionType": "equirectangular", "UsePanoramaViewer": "True", "PoseHeadingDegrees": "0.0",
        "CroppedAreaImageWidthPixels": "32", "CroppedAreaImageHeightPixels": "16", "FullPanoWidthPixels": "32",
        "FullPanoHeightPixels": "16", "CroppedAreaLeftPixels": "0", "CroppedAreaTopPixels": "0",
    }  # fmt: skip


# ---- the cube map


def read(file: Path) -> Tensor:
    """[3,H,W] in [−1, 1]."""
    return torch.tensor(np.asarray(Image.open(file).convert("RGB"))).movedim(-1, 0) / 127.5 - 1


def test_the_faces_look_along_the_axes(tmp_path: Path) -> None:
    file = panorama_files.save_cube_map(tmp_path / "cube.png", globe())
    faces = {name: read(tmp_path / "cube" / f"{name}.png") for name in AXES}
    assert len(list((tmp_path / "cube").iterdir())) == 6
    for name, axis in AXES.items():
        assert faces[name].shape == (3, 32, 32)
        middle = faces[name][:, 15:17, 15:17].mean((1, 2)) / 0.9
        assert torch.allclose(middle, torch.tensor(axis).float(), atol=0.02), name
    cross = read(file)
    assert cross.shape == (3, 96, 128)
    places = {"up": (0, 1), "left": (1, 0), "front": (1, 1), "right": (1, 2), "back": (1, 3), "down": (2, 1)}
    for name, (row, column) in places.items():
        assert torch.equal(cross[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32], faces[name])
    # neighbours in the cross go on in each other: a step over an edge is no longer than one beside it
    for row, column, along in [(1, 1, 2), (1, 2, 2), (1, 3, 2), (1, 1, 1), (2, 1, 1)]:
        edge = 32 * (column if along == 2 else row)
        across = slice(32 * row, 32 * row + 32) if along == 2 else slice(32 * column, 32 * column + 32)
        lines = [cross.movedim(along, -1)[:, across, edge + i] for i in (-2, -1, 0, 1)]
        before, over, after = (float((b - a).abs().mean()) for a, b in pairwise(lines))
        assert over <= 1.2 * max(before, after)


# ---- the video


def test_the_video_turns_to_the_right_once(tmp_path: Path) -> None:
    file = panorama_files.save_video(tmp_path / "a.mp4", quarters(), seconds=1, fps=8, width=65)
    frames = np.stack(imageio.mimread(file, memtest=False))  # type: ignore[arg-type]
    assert frames.shape == (8, 36, 64, 3)
    centres = frames[:, 12:24, 26:38].astype(float).mean((1, 2)) > 128
    front, right, back, left = centres[::2].tolist()
    assert front == [True, False, False] and right == [True, True, True]
    assert back == [False, False, True] and left == [False, True, False]
    assert (frames[1, 18, 6] > 128).tolist() == [True, False, False]  # 45° on, the front is at the left edge


def test_all_files_at_once(tmp_path: Path) -> None:
    files = panorama_files.save_all(tmp_path / "out", quarters(16))
    assert [file.name for file in files] == ["panorama.png", "cubemap.png", "panorama.mp4", "panorama.html"]
    assert all(file.stat().st_size > 100 for file in files)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(["cubemap", *(f.name for f in files)])


# ---- the page


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One that draws WebGL by software, or (parameter 2d) one without WebGL."""
    kind = getattr(request, "param", "webgl")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    drawn = ["--enable-unsafe-swiftshader"] if kind == "webgl" else ["--disable-3d-apis"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", *drawn])
        browser.drawn = kind
        yield browser
        browser.close()


by_both = pytest.mark.parametrize("browser", ["webgl", "2d"], indirect=True)


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """visit(**context) -> a tab with the page of `quarters`; the test fails on an error in its console."""
    contexts, errors = [], []

    def visit(title: str = "Four quarters", picture: Tensor | None = None, **options: Any) -> Any:
        file = panorama_files.save_viewer(tmp_path / "a.html", quarters() if picture is None else picture, title)
        options = {"viewport": {"width": 320, "height": 240}, "reduced_motion": "reduce", **options}
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else errors.append(r.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("#stage[data-drawn] canvas")
        assert tab.get_attribute("#stage", "data-drawn") == browser.drawn
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert not errors


def seen(tab: Any, x: float = 0.5, y: float = 0.5) -> list[int]:
    """The colour on the screen at a share of the stage, as [red, green, blue] that are 0 or 1."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    with_canvas_alone = "h1, #help, #where, #bar { visibility: hidden }"
    shot = Image.open(io.BytesIO(tab.screenshot(style=with_canvas_alone))).convert("RGB")
    pixel = np.asarray(shot)[int(y * shot.height), int(x * shot.width)]
    assert all(level < 30 or level > 225 for level in pixel)  # colours of the picture, not mixtures or the page's
    return [int(level > 128) for level in pixel]


RED, GREEN, BLUE, WHITE, YELLOW, BLACK = [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]


@by_both
def test_the_page_shows_the_front_and_turns_by_keys(visit: Callable[..., Any]) -> None:
    tab = visit()
    assert seen(tab) == RED
    for key, times, wanted in [
        ("ArrowLeft", 6, GREEN), ("ArrowLeft", 6, BLUE), ("ArrowLeft", 6, WHITE), ("ArrowLeft", 6, RED),
        ("ArrowRight", 6, WHITE), ("Home", 1, RED), ("ArrowUp", 9, YELLOW), ("Home", 1, RED), ("ArrowDown", 9, BLACK),
    ]:  # fmt: skip
        for _ in range(times):
            tab.keyboard.press(key)  # a fifth of 75° each
        assert seen(tab) == wanted, (key, wanted)
    tab.wait_for_function("() => document.querySelector('#where').textContent === 'straight ahead, 90° down, 75° wide'")


@by_both
def test_left_is_left_and_up_is_up(visit: Callable[..., Any]) -> None:
    tab = visit()
    for _ in range(10):
        tab.keyboard.press("-")
    tab.wait_for_function("() => document.querySelector('#where').textContent === 'straight ahead, 120° wide'")
    assert [seen(tab, x) for x in (0.05, 0.5, 0.95)] == [GREEN, RED, WHITE]
    assert [seen(tab, y=y) for y in (0.03, 0.5, 0.97)] == [YELLOW, RED, BLACK]
    tab.keyboard.press("Home")
    assert seen(tab, 0.05) == RED  # 75° of it are all front


def test_the_page_turns_under_the_mouse_the_wheel_and_the_buttons(visit: Callable[..., Any]) -> None:
    tab = visit()
    tab.mouse.move(40, 120)
    tab.mouse.down()
    tab.mouse.move(300, 120, steps=4)  # what is held goes to the right, the view to the left
    tab.mouse.up()
    assert seen(tab) == GREEN
    tab.keyboard.press("Home")
    tab.mouse.move(160, 100)
    for _ in range(20):
        tab.mouse.wheel(0, 100)
    tab.wait_for_function("() => document.querySelector('#where').textContent.endsWith('120° wide')")
    tab.click("[data-do=home]")
    for name, times, wanted in [("left", 6, GREEN), ("right", 12, WHITE), ("home", 1, RED), ("up", 6, YELLOW)]:
        for _ in range(times):
            tab.click(f"[data-do={name}]")
        assert seen(tab) == wanted
    assert tab.locator("button:visible").count() in (7, 8)  # full screen where the browser has it
    unnamed = tab.locator("button").evaluate_all("all => all.filter((b) => !b.ariaLabel).length")
    assert unnamed == 0 and tab.get_attribute("#stage", "aria-label") == "Four quarters"


def test_a_finger_turns_and_two_zoom(visit: Callable[..., Any]) -> None:
    tab = visit(has_touch=True, is_mobile=True)
    client = tab.context.new_cdp_session(tab)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (40, 120))
    for x in (120, 200, 300):
        touch("touchMove", (x, 120))
    touch("touchEnd")
    assert seen(tab) == GREEN
    tab.keyboard.press("Home")
    touch("touchStart", (120, 110), (200, 110))
    touch("touchMove", (140, 110), (180, 110))  # half as far apart
    touch("touchEnd")
    tab.wait_for_function("() => document.querySelector('#where').textContent.endsWith('120° wide')")


@by_both
def test_the_page_fills_any_window(visit: Callable[..., Any]) -> None:
    tab = visit()
    for width, height in [(500, 200), (200, 500)]:
        tab.set_viewport_size({"width": width, "height": height})
        box = tab.locator("canvas").bounding_box()
        assert (box["width"], box["height"]) == (width, height)
        assert seen(tab) == RED
        assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
        ratio = tab.evaluate("document.querySelector('canvas').width / document.querySelector('canvas').height")
        assert ratio == pytest.approx(width / height, rel=0.02)  # pixels are square


@by_both
def test_the_seam_behind_cannot_be_seen(visit: Callable[..., Any]) -> None:
    # constant colours but for a step at azimuth 90°: a line at 180° could only come from the lookup
    picture = torch.ones(3, 64, 128)
    picture[:2, :, 32:96] = -1
    tab = visit(picture=picture)
    for _ in range(12):
        tab.keyboard.press("ArrowLeft")
    seen(tab)
    shot = tab.screenshot(style="h1, #help, #where, #bar { visibility: hidden }")
    assert np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).min() >= 254


def test_a_lost_graphics_context_is_made_up_for(visit: Callable[..., Any]) -> None:
    tab = visit()
    for _ in range(6):
        tab.keyboard.press("ArrowLeft")
    tab.evaluate(
        "document.querySelector('canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    tab.wait_for_selector("#stage[data-drawn='2d'] canvas")
    assert seen(tab) == GREEN


def test_moves_take_a_moment_but_not_for_those_who_asked_for_stillness(visit: Callable[..., Any]) -> None:
    tab = visit(reduced_motion="no-preference")
    tab.keyboard.press("ArrowLeft")
    assert 0 <= tab.evaluate("view.azimuth") < 15
    tab.wait_for_function("() => view.azimuth === 15 && goal.azimuth === 15")
    tab = visit()
    tab.keyboard.press("ArrowLeft")
    seen(tab)
    assert tab.evaluate("view.azimuth") == 15


def test_a_nasty_title_does_nothing(visit: Callable[..., Any]) -> None:
    title = "</title><script>window.broken = 1</script>\"><img src=x onerror='window.broken = 1'>"
    tab = visit(title)
    assert tab.evaluate("window.broken") is None and tab.inner_text("h1") == title and tab.title() == title
