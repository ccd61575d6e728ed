"""A run in a browser as it samples: that it goes on as before, pauses, saves and stops; and what it has made."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import Unavailable, chromium, watch
from pullback import cli
from pullback.errors import UserError
from pullback.host import launch
from pullback.host.arguments import parse_args
from pullback.host.live import scene, server
from test_run_page import cube, make

viser = pytest.importorskip("viser", reason="no viser: pip install viser")
ROOT = Path(__file__).parents[1]
SMALL = (
    "system.guidance.levels=40", "system.guidance.cycles=1", "system.guidance.fit_steps=2", "data.batch_size=4",
    "system.guidance.fit_rays=256", "system.geometry.grid_size=[12,12,12]", "system.geometry.isosurface_resolution=12",
    "data.n_test_views=4", "data.n_val_views=1", "data.eval_width=16", "data.eval_height=16",
)  # fmt: skip
PROMPT = "a red cube"
ENDLESS = "system.guidance.levels=5000"  # a run that ends as the test asks, however fast the machine is


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- where it listens


@pytest.mark.parametrize("address", ["x", "70000", "a b:80", "1.2.3.4:99999", "-1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="--view"):
        server.open_server(address)


def test_it_listens_to_this_machine_only_and_a_busy_port_is_refused_before_the_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    found = server.open_server("")
    try:
        assert found.get_host() == "127.0.0.1" and server.address_of(found).startswith("http://127.0.0.1:80")
        words = ["--config", "pullback-nerf-tiny.yaml", "--train", "system.prompt_processor.prompt=x"]
        assert launch.main([*words, "--view", str(found.get_port())]) == 2
        told = capsys.readouterr().err
        assert f"port {found.get_port()}" in told and len(told.splitlines()) == 1 and os.listdir(tmp_path) == []
        other = server.open_server("")  # without a port the next free one
        assert other.get_port() != found.get_port()
        other.stop()
    finally:
        found.stop()


def test_without_viser_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match=r"pip install .threestudio-pullback\[view\]"):
        server.open_server("")


def test_an_override_after_view_is_an_override() -> None:
    words = ["--config", "x", "--train", "--view"]
    for more, view in (([], ""), (["8081"], "8081")):
        args, rest = parse_args([*words, *more, "seed=1"])
        assert (args.view, rest) == (view, ["seed=1"])
    assert parse_args(words[:3])[0].view is None


# ---- cameras and levels


def test_cameras_are_turned_there_and_back() -> None:
    from types import SimpleNamespace

    from pullback.views.cameras import orbit

    c2w = orbit(torch.tensor([20.0, -5.0]), torch.tensor([30.0, 200.0]), 2.4)
    for matrix in c2w:
        wxyz, position = server.turned(matrix)
        assert torch.allclose(server.pose(SimpleNamespace(wxyz=wxyz, position=position)), matrix, atol=1e-6)


def test_levels_are_thinned_where_they_take_too_much_and_the_last_stays() -> None:
    levels = scene.Levels(most=10 * 2 * 100)  # ten of them
    for i in range(37):
        levels.add(i, {"geometry.grid": torch.full((100,), float(i)), "geometry.n": torch.tensor([])})
        assert len(levels) <= 10
        found = levels.at(i)
        assert found is not None and found[0] == i and float(found[1]["geometry.grid"][0]) == i
    first = levels.at(0)
    assert first is not None and first[0] == 0
    assert scene.Levels().at(3) is None


# ---- with a real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        with chromium() as found:
            yield found
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """begin(*overrides) -> a run with --view, and its address."""
    started = []

    def begin(*words: str) -> tuple[Any, str]:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "pullback",
            "demo",
            "--prompt",
            PROMPT,
            "--view",
            str(port),
            *SMALL,
            *words,
        ]
        path = str(ROOT / "custom" / "threestudio-pullback")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        run = subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(run)
        return run, f"http://127.0.0.1:{port}"

    yield begin
    for run in started:
        run.kill()
        run.wait()


def until(holds: Callable[[], Any], seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def open_tab(browser: Any, address: str) -> Any:
    tab = browser.new_page(viewport={"width": 500, "height": 500})
    tab.set_default_timeout(90_000)
    tab.told = watch(tab, address)

    def answers() -> bool:
        try:
            tab.goto(address)
            return True
        except Exception:
            return False

    until(answers)
    return tab


def step(tab: Any) -> int:
    match = re.search(r"step (\d+) of", tab.inner_text("body"))
    return int(match[1]) if match else 0


def test_two_clients_look_on_pause_save_and_stop(browser: Any, begin: Callable[..., Any], tmp_path: Path) -> None:
    run, address = begin(ENDLESS)
    tab, other = open_tab(browser, address), open_tab(browser, address)
    until(lambda: step(tab) > 1)
    tab.get_by_role("button", name="Pause").click()
    other.get_by_role("button", name="Go on").wait_for()  # what one does the other sees
    time.sleep(1.5)  # a step that has begun ends
    at = step(tab)
    for label in ("noisy input", "residual", "self-consistency", "minutes left", "Finished level"):
        assert label in tab.inner_text("body") or tab.get_by_text(label).count(), label
    tab.get_by_role("button", name="Save a checkpoint").click()
    last = until(lambda: [*tmp_path.glob("outputs/demo/*/ckpts/last.ckpt")])[0]
    time.sleep(1)
    assert step(tab) in (at, 0)  # 0: it says what was saved
    saved = torch.load(last, map_location="cpu", weights_only=True)["global_step"]
    other.close()  # the run does not mind
    tab.get_by_role("button", name="Go on").click()
    until(lambda: step(tab) > saved)
    assert tab.told == []
    tab.get_by_role("button", name="Stop, with a checkpoint").click()
    text = run.communicate(timeout=120)[0]
    assert run.returncode == 130 and "--train resume=" in text, text
    assert torch.load(last, map_location="cpu", weights_only=True)["global_step"] > saved
    tab.close()


def test_ctrl_c_ends_a_paused_run_with_a_checkpoint(browser: Any, begin: Callable[..., Any], tmp_path: Path) -> None:
    run, address = begin(ENDLESS)
    tab = open_tab(browser, address)
    until(lambda: step(tab) > 1)
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("button", name="Go on").wait_for()
    tab.close()
    run.send_signal(signal.SIGINT)
    text = run.communicate(timeout=120)[0]
    assert run.returncode == 130 and "--train resume=" in text, text
    assert [*tmp_path.glob("outputs/demo/*/ckpts/last.ckpt")]


def test_a_view_changes_nothing_of_the_run(
    begin: Callable[..., Any], browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("system.guidance.levels=6",)
    run, address = begin(*few, "tag=seen")
    tab = open_tab(browser, address)
    text = run.communicate(timeout=240)[0]
    assert run.returncode == 0, text
    tab.close()
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    assert cli.main(["demo", "--prompt", PROMPT, *SMALL, *few, "tag=unseen", "trainer.enable_progress_bar=false"]) == 0
    one, two = (
        torch.load(tmp_path / "outputs" / "demo" / name / "ckpts" / "last.ckpt", map_location="cpu", weights_only=True)
        for name in ("seen", "unseen")
    )
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])
    assert (tmp_path / "outputs" / "demo" / "seen" / "page.html").is_file()


# ---- what a run has made


@pytest.mark.parametrize("path", ["none", "a.txt", "square.png"])
def test_what_cannot_be_shown_is_refused_in_a_sentence(path: str, tmp_path: Path, capsys: Any) -> None:
    from PIL import Image

    (tmp_path / "a.txt").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "square.png")
    assert cli.main(["view", str(tmp_path / path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["mesh", "panorama"])
def test_a_mesh_and_a_panorama_are_shown(kind: str, browser: Any, tmp_path: Path) -> None:
    from pullback.cli import view

    make(tmp_path, kind="object" if kind == "mesh" else kind)
    path = tmp_path / "save" / "it3-export" / "model.glb" if kind == "mesh" else tmp_path
    found = server.open_server("")
    screens = view._shower(path, [])(found)
    try:
        tab = open_tab(browser, server.address_of(found))
        tab.wait_for_function("() => document.querySelector('canvas')")
        assert kind == "panorama" or len(cube().v_pos) == 24
        until(lambda: screens is None or not screens._due)
        assert tab.told == []
        tab.close()
    finally:
        if screens is not None:
            screens.close()
        found.stop()


def test_a_panorama_is_seen_in_the_direction_of_the_camera() -> None:
    from pullback.cli.view import inside
    from pullback.views.cameras import look_at

    pixels = -torch.ones(3, 32, 64)
    pixels[:, :, 32:] = 1  # azimuth 0 to -180°: right of the front, which is +x
    for target, bright in (((0.0, -1.0, 0.0), 255), ((0.0, 1.0, 0.0), 0)):
        place = torch.tensor([[3.0, 1.0, 2.0]])
        c2w = look_at(place, place + torch.tensor([target]), torch.tensor([0.0, 0.0, 1.0]))[0]
        assert (inside(pixels)(c2w, 1.0, 9, 9)[4, 4] == bright).all()
