"""`pullback view RUN` of a field: each checkpoint is drawn for a real browser, from where its camera stands."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Unavailable, chromium, watch
from omegaconf import OmegaConf
from PIL import Image
from pullback.cli import view
from pullback.host.config import load_config
from pullback.host.parts import load_parts
from pullback.host.training.systems import BaseLift3DSystem
from pullback.resources import TINY_CONFIG

viser = pytest.importorskip("viser", reason="no viser: pip install viser")
SMALL = ["system.prompt_processor.prompt=x", "system.geometry.grid_size=[16,16,16]", "tag=x", "use_timestamp=false"]
BALL = 0.5


def make_run(folder: Path, colours: list[list[float]]) -> Path:
    """A run whose field is a ball, of another colour at each checkpoint."""
    load_parts([])
    cfg = load_config(str(TINY_CONFIG), cli_args=SMALL)
    (folder / "configs").mkdir()
    (folder / "ckpts").mkdir()
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg)), folder / "configs" / "parsed.yaml")
    parts = {k: v for k, v in cfg.system.items() if k.partition("_type")[0] in ("geometry", "material", "background")}
    system = BaseLift3DSystem({**parts, "renderer_type": cfg.system.renderer_type, "renderer": cfg.system.renderer})
    axis = torch.linspace(-1, 1, 16) * cfg.system.geometry.radius
    far = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    for step, colour in enumerate(colours, 1):
        with torch.no_grad():
            system.geometry.grid[0, 0] = torch.where(far < BALL, 200.0, -200.0)
            system.geometry.grid[0, 1:] = torch.tensor(colour).logit(1e-4)[:, None, None, None]
        saved = {"state_dict": system.state_dict(), "epoch": 0, "global_step": step}
        for name in (f"epoch=0-step={step}.ckpt", "last.ckpt"):
            torch.save(saved, folder / "ckpts" / name)
    return folder


@pytest.fixture
def tab() -> Iterator[Any]:
    try:
        with chromium() as browser:
            yield browser.new_page(viewport={"width": 640, "height": 480})
    except Unavailable as e:
        pytest.skip(str(e))


def seen(tab: Any) -> list[int]:
    """The colour in the middle of the tab."""
    picture = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
    return picture[picture.shape[0] // 2, picture.shape[1] // 2].tolist()


def until(tab: Any, wanted: list[int]) -> None:
    """Waits for the colour, which a JPEG carries."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if np.abs(np.array(seen(tab)) - wanted).max() < 20:
            return
        tab.wait_for_timeout(200)
    raise AssertionError(f"the middle is {seen(tab)}, not {wanted}")


def test_the_field_of_a_run_is_seen_at_each_of_its_checkpoints(tab: Any, tmp_path: Path) -> None:
    from pullback.host.live import server

    run = make_run(tmp_path, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    found = server.open_server("")
    screens = view._shower(run, [])(found)
    try:
        address = server.address_of(found)
        told = watch(tab, address)
        tab.goto(address)
        until(tab, [255, 0, 0])  # the last one, in the middle
        slider = tab.get_by_role("slider").first
        slider.focus()
        tab.keyboard.press("ArrowLeft")
        slider.press("ArrowLeft")
        until(tab, [0, 0, 255])
        assert tab.get_by_text("step 1", exact=True).count() == 1 and told == []
    finally:
        screens.close()
        server.close_server(found)
