"""The page of a run: what it holds, that nothing comes from outside or breaks out, and that it works in a browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from browsing import Unavailable, chromium, npm, vendor_web, violations, watch
from PIL import Image
from pullback.errors import UserError
from pullback.host import page, record
from pullback.output import mesh_files, panorama_files, webpage
from pullback.output.pictures import save_png
from pullback.output.run_page import LIMIT
from test_report_page import NASTY, Reader

RED, GREEN, BLUE, WHITE, YELLOW, BLACK = [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]
SIDES = {(0, 1): RED, (0, -1): BLUE, (2, 1): GREEN, (2, -1): WHITE, (1, 1): YELLOW, (1, -1): BLACK}
# axis of the side in SIDES' order of a glTF file: 0 is z, whose + is the front; 1 is y, up; 2 is x, right of the front
AXIS = {0: 2, 1: 1, 2: 0}


def cube() -> mesh_files.MeshData:
    """Front red, back blue, right green, left white, above yellow, below black; not in the middle of the world."""
    points, colours, faces = [], [], []
    for (side, sign), colour in SIDES.items():
        axis, start = AXIS[side], len(points)
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            point = np.zeros(3)
            point[axis], point[(axis + 1) % 3], point[(axis + 2) % 3] = sign, u * sign, v
            points.append(point)
            colours.append(colour)
        faces += [[start, start + 1, start + 2], [start, start + 2, start + 3]]
    v_pos = np.array(points) * 0.5 + [0.1, 0.2, 0.3]
    return mesh_files.MeshData(v_pos=v_pos, t_pos_idx=np.array(faces), v_rgb=np.array(colours, float))


def make(folder: Path, prompt: str = "a cube", kind: str = "object", seed: int = 7) -> Path:
    """A run's folder as the host leaves it."""
    save = folder / "save"
    for name in ("configs", "csv_logs/version_0", "save/it3-test", "save/it3-whole", "save/it3-export"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    system = {
        "prompt_processor": {"prompt": prompt, "pretrained_model_name_or_path": "stable-diffusion-v1-5/sd"},
        "guidance": {"levels": 3, "noise": "shared", "constraint": "none", "guidance_scale": 2.5},
    }
    config = {"tag": "x", "seed": seed, "system_type": "pullback-system", "system": system}
    (folder / "configs" / "parsed.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    told = f"/bin/pullback launch --train 'prompt=a b' resume=x/last.ckpt seed={seed}\nthreestudio-pullback 9.9\nin /\n"
    (folder / "cmd.txt").write_text(told)
    lines = ["consistency,level,nfe,residual,sigma,step", ",0,8,0.3,10.0,0", ",1,16,0.2,1.0,1", "0.25,2,24,nan,0.1,2"]
    (folder / "csv_logs" / "version_0" / "metrics.csv").write_text("\n".join(lines))
    generator = torch.Generator().manual_seed(0)
    for i in range(1 if kind == "picture" else 3):
        save_png(save / "it3-test" / f"{i}.png", 2 * torch.rand(3, 32, 32, generator=generator) - 1)
    if kind == "object":
        mesh_files.save(str(save / "it3-export" / "model.glb"), cube())
        panorama_files.video.save_video(
            save / "it3-test.mp4", [np.full((32, 32, 3), 80 * i, np.uint8) for i in range(3)], 8
        )
    if kind == "panorama":
        panorama_files.save_png(save / "it3-whole" / "panorama.png", torch.linspace(-1, 1, 128).expand(3, 64, 128))
    return folder


# ---- what a folder says


def test_a_folder_is_read(tmp_path: Path) -> None:
    found = record.read(make(tmp_path))
    assert (found.prompt, found.seed, found.model) == ("a cube", 7, "stable-diffusion-v1-5/sd")
    assert found.command == "/bin/pullback launch --train 'prompt=a b' seed=7" and found.version.endswith("9.9")
    assert found.values["residual"] == {0: 0.3, 1: 0.2} and found.last("consistency") == 0.25  # a NaN is no value
    (tmp_path / "csv_logs" / "version_1").mkdir()
    (tmp_path / "csv_logs" / "version_1" / "metrics.csv").write_text("residual,step\n0.5,1\n0.1,2\n")
    assert record.read(tmp_path).values["residual"] == {0: 0.3, 1: 0.5, 2: 0.1}  # what the resumed run made again
    assert found.mesh and found.video and found.picture and not found.panorama
    assert record.read(make(tmp_path / "b", kind="panorama")).panorama


@pytest.mark.parametrize("content", [None, "[", "text", "\xff"])
def test_another_folder_is_refused_in_a_sentence(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    if content is not None:
        (tmp_path / "configs" / "parsed.yaml").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="folder"):
        record.read(tmp_path)


# ---- what the page holds


@pytest.mark.parametrize("kind", ["object", "panorama", "picture"])
def test_the_page_is_one_file_that_loads_nothing(kind: str, tmp_path: Path) -> None:
    page.write(make(tmp_path, kind=kind))
    text = (tmp_path / page.NAME).read_text(encoding="utf-8")
    html = Reader(text)
    assert len(text.encode()) < 1_000_000
    assert ("three.js authors" in text) == (kind == "object")  # with its licence
    for tag, attributes, inner, _ in html.elements:
        for name in ("src", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
        assert "srcset" not in attributes and not [name for name in attributes if name.startswith("on")], tag
        if tag == "a":
            assert (attributes["href"] or "").startswith(("data:", "#"))
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "style":
            assert "url(" not in "".join(inner) and "@import" not in "".join(inner)
    words = " ".join("".join(inner) for tag, _, inner, _ in html.elements if tag in ("h1", "dd", "code", "p"))
    for told in (
        "a cube",
        "7",
        "stable-diffusion-v1-5/sd",
        "prompt=a b",
        "0.250",
        "levels: 3",
        "threestudio-pullback 9.9",
    ):
        assert told in words, told
    assert "resume=" not in words
    policy = next(a["content"] for a, _ in html.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none';") and "http" not in policy


@pytest.mark.parametrize("prompt", NASTY)
@pytest.mark.parametrize("kind", ["object", "panorama"])
def test_a_prompt_stays_a_text(prompt: str, kind: str, tmp_path: Path) -> None:
    page.write(make(tmp_path, prompt, kind))
    html = Reader((tmp_path / page.NAME).read_text(encoding="utf-8"))
    ((_, title),) = html.all("h1")
    assert title == prompt and len(html.all("img")) == 1
    assert (
        len(html.all("script")) == {"object": 5, "panorama": 4}[kind]
    )  # data, uPlot, what turns it (and three.js), page


def test_what_is_too_large_lies_beside_the_page(tmp_path: Path) -> None:
    make(tmp_path)
    noise = np.random.default_rng(0)
    (tmp_path / "save" / "it3-test.mp4").write_bytes(noise.bytes(3_000_000))
    Image.fromarray(noise.integers(0, 255, (1200, 1200, 3), np.uint8)).save(tmp_path / "save" / "it3-test" / "0.png")
    page.write(tmp_path)
    assert (tmp_path / page.NAME).stat().st_size <= LIMIT
    links = [a["href"] for a, _ in Reader((tmp_path / page.NAME).read_text()).all("a")]
    assert "save/it3-test.mp4" in links
    (tmp_path / "save" / "it3-export" / "model.glb").write_bytes(noise.bytes(3_000_000))
    page.write(tmp_path)
    assert (tmp_path / page.NAME).stat().st_size <= LIMIT
    links = [a["href"] for a, _ in Reader((tmp_path / page.NAME).read_text()).all("a")]
    assert "save/it3-export/model.glb" in links


def test_a_run_without_pictures_has_no_page(tmp_path: Path) -> None:
    make(tmp_path)
    for file in (tmp_path / "save").rglob("*.png"):
        file.unlink()
    page.write(tmp_path)
    assert not (tmp_path / page.NAME).exists()


def test_the_scripts_of_others_are_what_the_tool_takes_from_npm() -> None:
    try:
        files = vendor_web.build(npm())
    except (Unavailable, OSError, vendor_web.subprocess.SubprocessError) as e:
        pytest.skip(str(e))
    assert {file.name: file.read_bytes() for file in webpage.WEB.iterdir()} == files


# ---- in a browser


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One that draws WebGL by software, or (parameter plain) one without WebGL."""
    options = ("--no-sandbox", "--disable-3d-apis") if getattr(request, "param", "") == "plain" else ()
    try:
        with chromium(*options) as found:
            yield found
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """visit(file, **context) -> a tab with that page; the test fails on an error in its console or a request."""
    contexts, told = [], []

    def visit(file: Path, **options: Any) -> Any:
        options = {"viewport": {"width": 900, "height": 800}, "reduced_motion": "reduce", **options}
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(10_000)
        told.append(watch(tab))
        tab.goto(file.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert not any(told), told


def seen(tab: Any) -> list[int]:
    """The colour in the middle of the stage, as [red, green, blue] that are 0 or 1."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shot = Image.open(io.BytesIO(tab.locator("#viewer").screenshot(style="#help, #where, #bar { visibility: hidden }")))
    pixel = np.asarray(shot.convert("RGB"))[shot.height // 2, shot.width // 2]
    assert all(level < 30 or level > 225 for level in pixel), pixel
    return [int(level > 128) for level in pixel]


def test_the_object_is_turned_by_keys_buttons_mouse_and_touch(visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path))
    tab = visit(tmp_path / page.NAME)
    tab.wait_for_selector("#stage[data-drawn=webgl]")
    assert seen(tab) == RED
    tab.focus("#stage")
    for key, times, wanted in [  # 15° each; the start is 30° to the right, 20° above
        ("ArrowRight", 4, GREEN), ("ArrowRight", 6, BLUE), ("ArrowRight", 6, WHITE), ("Home", 1, RED),
        ("ArrowLeft", 8, WHITE), ("Home", 1, RED), ("ArrowUp", 4, YELLOW), ("Home", 1, RED), ("ArrowDown", 7, BLACK),
    ]:  # fmt: skip
        for _ in range(times):
            tab.keyboard.press(key)
        assert seen(tab) == wanted, (key, wanted)
    tab.wait_for_function(
        "() => document.querySelector('#where').textContent === 'Seen from 30° to the right, 85° below'"
    )
    tab.click("[data-do=home]")
    assert seen(tab) == RED
    tab.mouse.move(300, 400)
    tab.mouse.down()
    tab.mouse.move(200, 400, steps=4)  # drawn to the left: its right side comes to the front
    tab.mouse.up()
    assert seen(tab) == GREEN
    tab.click("[data-do=home]")
    touch = tab.context.new_cdp_session(tab)
    for kind, x in (("touchStart", 300), ("touchMove", 250), ("touchMove", 200), ("touchEnd", None)):
        points = [] if x is None else [{"x": x, "y": 400}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert seen(tab) == GREEN
    box = "() => document.querySelector('#stage canvas').getBoundingClientRect().width"
    assert tab.evaluate(box) > 200
    tab.keyboard.press("Tab")  # the page's other keys still work
    assert tab.evaluate("document.activeElement.tagName") != "BODY"


def test_downloads_are_the_files(visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path))
    tab = visit(tmp_path / page.NAME, accept_downloads=True)
    tab.wait_for_selector("#stage[data-drawn=webgl]")
    for name, file in (("glb", "it3-export/model.glb"), ("mp4", "it3-test.mp4")):
        with tab.expect_download() as started:
            tab.click(f"a[download$='.{name}']")
        assert started.value.suggested_filename.startswith("a-cube-")
        assert Path(started.value.path()).read_bytes() == (tmp_path / "save" / file).read_bytes()


def test_what_no_camera_of_the_run_saw_is_not_shown(visit: Callable[..., Any], tmp_path: Path) -> None:
    parsed = make(tmp_path) / "configs" / "parsed.yaml"
    parsed.write_text(parsed.read_text() + "data: {elevation_range: [5, 60]}\n")
    page.write(tmp_path)
    tab = visit(tmp_path / page.NAME)
    tab.wait_for_selector("#stage[data-drawn=webgl]")
    tab.focus("#stage")
    for _ in range(7):
        tab.keyboard.press("ArrowDown")
    tab.wait_for_function("() => document.querySelector('#where').textContent.endsWith('right, 5° above')")
    assert seen(tab) == RED  # not what is below, which is black
    assert "elevations of 5° to 60°" in tab.inner_text("#facts")


def test_it_turns_by_itself_until_somebody_turns_it(visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path))
    tab = visit(tmp_path / page.NAME, reduced_motion="no-preference")
    tab.wait_for_selector("[data-do=spin][aria-pressed=true]")
    tab.focus("#stage")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_selector("[data-do=spin][aria-pressed=false]")


def test_the_panorama_is_turned_in_its_page(visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path, kind="panorama"))
    tab = visit(tmp_path / page.NAME)
    tab.wait_for_selector("#stage[data-drawn=webgl]")
    tab.focus("#stage")
    for _ in range(6):
        tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("() => document.querySelector('#where').textContent.startsWith('90° left')")


@pytest.mark.parametrize("kind", ["object", "panorama", "picture"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_is_out_of_reach(kind: str, width: int, scheme: str, visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path, kind=kind))
    tab = visit(tmp_path / page.NAME, viewport={"width": width, "height": 844}, color_scheme=scheme)
    if kind != "picture":
        tab.wait_for_selector("#bar:not([hidden])")
    assert len(tab.query_selector_all("#curves canvas")) == 2
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    try:
        assert violations(tab) == []
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.mark.parametrize("browser", ["plain"], indirect=True)
def test_without_webgl_there_is_a_picture_and_a_sentence(visit: Callable[..., Any], tmp_path: Path) -> None:
    page.write(make(tmp_path))
    tab = visit(tmp_path / page.NAME)
    tab.wait_for_function("() => document.querySelector('#where').textContent.includes('no WebGL')")
    assert tab.is_visible("#picture") and not tab.is_visible("#bar")
    assert len(tab.query_selector_all("#curves canvas")) == 2
