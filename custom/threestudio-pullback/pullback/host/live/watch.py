"""`--view`: a run as it samples, in a browser."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ..registry import info, warn
from ..training.callbacks import Interrupted, SafeStop
from .scene import Levels, SceneCopy, State, state_of
from .server import Screens, address_of, close_server, open_server, turned

SHARE = 0.03  # of the time, for drawing what clients see while the run goes on, and as much for cameras and curves
CAMERAS = 8  # most training cameras that are shown
SIZE = 96  # pixels of their pictures
PICTURES = {"render": "clean", "noisy input": "noisy", "the model's answer x̂0": "x0"}
PLOTS = ("residual", "sigma", "self-consistency", "minutes left")
CONSISTENCY = """*Self-consistency* here: rms between the render and the model's answer, in the worst camera, at the
noise of the step."""


def _harmless(act: Callable[..., Any]) -> Callable[..., Any]:
    """A step of the view that fails ends the view, and not the run."""

    @wraps(act)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.broken:
            return None
        try:
            return act(self, *args, **kwargs)
        except Exception as e:
            self.broken = True
            warn("the live view has ended, and the run goes on: %s: %s", type(e).__name__, e)
            return None

    return run


class LiveView(Callback):
    """Shows a run in a browser, and lets it pause, save and stop. Changes nothing of what the run makes.

    It comes after SafeStop in the list of callbacks, which copies the state of every whole step.

    Args:
        address: Where to listen; see `server.open_server`.

    Raises:
        UserError: See `server.open_server`.
    """

    def __init__(self, address: str) -> None:
        self.server = open_server(address)
        self.broken = False
        self._stop: SafeStop | None = None
        self._paused, self._save = threading.Event(), threading.Event()
        self._screens: Screens | None = None
        self._levels = Levels()
        self._lock = threading.Lock()  # of the scene to be drawn next
        self._wanted: State | None = None
        self._seen: dict[str, Any] = {}
        self._rows: list[list[float]] = []
        self._frusta: list[Any] = []
        self._began, self._first, self._held = 0.0, 0, 0.0
        self._due = 0.0  # when cameras and curves are drawn again
        self._gui()
        info(f"Look on at {address_of(self.server)}")

    def of(self, stop: SafeStop) -> LiveView:
        """Takes the object by which a run is stopped and saved; returns itself."""
        self._stop = stop
        return self

    def close(self) -> None:
        """Ends the drawing and the server."""
        if self._screens is not None:
            self._screens.close()
        close_server(self.server)

    # ---- what is on the page

    def _gui(self) -> None:
        gui = self.server.gui
        self._says = gui.add_markdown("Loading …")
        self._pause = gui.add_button("Pause")
        self._saves = gui.add_button("Save a checkpoint")
        self._stops = gui.add_button("Stop, with a checkpoint", color="red")
        self._pause.on_click(lambda _: self._turn_pause())
        self._saves.on_click(lambda _: self._save.set())
        self._stops.on_click(lambda _: self._end())
        self._level = gui.add_slider("Finished level", 0, 1, 1, 1, hint="the last one: as it is now", disabled=True)
        self._level.on_update(lambda _: self._choose())
        with gui.add_folder("Training cameras"):
            self._shows = gui.add_dropdown("Show", tuple(PICTURES))
            self._shows.on_update(lambda _: self._show_cameras())
            self._strip = gui.add_image(np.full((3 * SIZE, 4 * SIZE, 3), 230, np.uint8), label="input, x̂0, render")
        self._plots: list[Any] = []
        self._curves = gui.add_folder("Curves")
        with self._curves:
            gui.add_markdown(CONSISTENCY)

    def _turn_pause(self) -> None:
        if self._paused.is_set():
            self._paused.clear()
        else:
            self._paused.set()
        self._pause.label = "Go on" if self._paused.is_set() else "Pause"

    def _end(self) -> None:
        if self._stop is not None and self._stop.received is None:
            info("Stopped in the browser")
            self._stop.received = signal.SIGINT  # as Ctrl-C: after this step, with a checkpoint

    # ---- with the run

    @_harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Copies the scene, and begins to draw."""
        self._began, self._first = time.monotonic(), trainer.global_step
        if hasattr(pl_module, "watch"):
            pl_module.watch(self._keep)
        if hasattr(getattr(pl_module, "renderer", None), "forward") and hasattr(pl_module, "geometry"):
            scene = SceneCopy(pl_module)
            datamodule = getattr(trainer, "datamodule", None)
            cfg = getattr(datamodule, "cfg", None)
            distance = float(getattr(cfg, "eval_camera_distance", 2.4))
            self.server.initial_camera.position = (1.7 * distance, 0.7 * distance, 1.0 * distance)
            self.server.initial_camera.look_at = (0.0, 0.0, 0.0)
            self._wanted = state_of(pl_module)

            def draw(c2w: Tensor, fovy: float, height: int, width: int) -> np.ndarray:
                with self._lock:
                    state, self._wanted = self._wanted, None
                if state is not None:
                    scene.load(state)
                return scene.draw(c2w, fovy, height, width)

            self._screens = Screens(self.server, draw)
            self._screens.share = SHARE
        self._says.content = "Sampling"

    def _keep(self, sigma: float, noisy: Tensor, x0: Tensor, clean: Tensor) -> None:
        self._seen = {"noisy": noisy, "x0": x0, "clean": clean, "sigma": sigma}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Shows the step; saves, and waits, as asked for in the browser."""
        self._step(trainer, pl_module, batch)
        self._wait(trainer)

    @_harmless
    def _step(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if isinstance(v, (int, float, Tensor))}
        done, total = trainer.global_step - self._first, trainer.max_steps
        spent = time.monotonic() - self._began - self._held
        left = spent / max(1, done) * (total - trainer.global_step) / 60 if total > 0 else float("nan")
        consistency = float("nan")
        if self._seen:
            off = (self._seen["x0"] - self._seen["clean"]).float().square().flatten(1).mean(1).max()
            consistency = float(off.sqrt())
        known = [values.get(name, float("nan")) for name in ("residual", "sigma")]
        self._rows.append([float(trainer.global_step), *known, consistency, left])
        level = int(values["level"]) if "level" in values else trainer.global_step
        if self._screens is not None and getattr(pl_module, "geometry", None) is not None:
            state = state_of(pl_module)
            self._levels.add(level, state)
        else:
            state = None
        if not self.server.get_clients():
            return
        self._tell(trainer, values, left)
        began = time.monotonic()
        if began < self._due and trainer.global_step != trainer.max_steps:
            return
        with self._lock:
            if state is not None and self._level.value >= self._level.max:
                self._wanted = state
        self._draw_cameras(pl_module, batch)
        self._draw_plots()
        newest = max(1, level)
        if self._level.max != newest or self._level.disabled:
            follow = self._level.value >= self._level.max
            self._level.max, self._level.disabled = newest, False
            if follow:
                self._level.value = newest
        if self._screens is not None:
            self._screens.again()
        now = time.monotonic()
        self._due = now + (now - began) / SHARE

    def _tell(self, trainer: Any, values: dict[str, float], left: float) -> None:
        total = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
        words = [f"step {trainer.global_step}{total}"]
        words += [f"{name} {values[name]:.4g}" for name in ("level", "sigma", "residual") if name in values]
        words += [f"{left:.1f} minutes left"] if left == left else []
        self._says.content = " · ".join(words)

    def _draw_cameras(self, pl_module: Any, batch: Any) -> None:
        """The cameras of the step as frusta, with a picture each, and the first four as a table of pictures."""
        if not self._seen or "c2w" not in batch:
            return
        count = min(CAMERAS, len(batch["c2w"]))
        self._pictures = {
            name: _bytes(pl_module.pictures(self._seen[name][:count])) for name in ("noisy", "x0", "clean")
        }
        first = [np.concatenate([*self._pictures[name][:4]], 1) for name in ("noisy", "x0", "clean")]
        self._strip.image = np.concatenate(first, 0)
        for i in range(count):
            wxyz, position = turned(batch["c2w"][i])
            if i == len(self._frusta):
                fovy = float(batch["fovy"][i])
                self._frusta.append(
                    self.server.scene.add_camera_frustum(f"/cameras/{i}", fovy, 1.0, scale=0.18, color=(60, 60, 60))
                )
            self._frusta[i].wxyz, self._frusta[i].position = wxyz, position
        self._show_cameras()

    def _show_cameras(self) -> None:
        pictures = getattr(self, "_pictures", {}).get(PICTURES[self._shows.value])
        for frustum, picture in zip(self._frusta, pictures if pictures is not None else [], strict=False):
            frustum.image = picture

    def _draw_plots(self) -> None:
        columns = np.array(self._rows, dtype=np.float64).T
        if not self._plots:
            for name in PLOTS:
                line = {"label": name, "stroke": "#0b5cad", "width": 2}
                scales = {"x": {"time": False}, "y": {"distr": 3 if name == "sigma" else 1}}
                with self._curves:
                    add = self.server.gui.add_uplot
                    data = (columns[0], columns[1])
                    self._plots.append(add(data, ({"label": "step"}, line), scales=scales, title=name, aspect=1.7))
        for plot, column in zip(self._plots, columns[1:], strict=True):
            plot.data = (columns[0], column)

    @_harmless
    def _choose(self) -> None:
        """Draws the level of the slider."""
        if self._level.value >= self._level.max:
            return  # the next step brings the present one
        if (found := self._levels.at(int(self._level.value))) is not None and self._screens is not None:
            with self._lock:
                self._wanted = found[1]
            self._screens.again()

    def _wait(self, trainer: Any) -> None:
        """Saves where it is asked for, and waits while the run is to pause; a signal or a stop ends both."""
        began = time.monotonic()
        assert self._stop is not None
        while True:
            if self._save.is_set():
                self._save.clear()
                if self._stop.io.copy is not None:
                    self._stop.io.write_copy(self._stop.path)
                    info(f"Saved {self._stop.path}")
                    self._says.content = f"Saved {self._stop.path}"
            if not self._paused.is_set() or self.broken or self._stop.received is not None:
                break
            if self._screens is not None:
                self._screens.share = 1.0
            time.sleep(0.05)
        if self._screens is not None:
            self._screens.share = SHARE
        self._held += time.monotonic() - began
        if self._stop.received is not None:
            raise Interrupted(self._stop.received)


def _bytes(pictures: Tensor) -> np.ndarray:
    """Pictures [V,3,H,W] in [-1,1] as bytes [V,SIZE,SIZE,3]."""
    resized = torch.nn.functional.interpolate(pictures[:, :3].float().clamp(-1, 1), (SIZE, SIZE), mode="area")
    return ((resized + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()
