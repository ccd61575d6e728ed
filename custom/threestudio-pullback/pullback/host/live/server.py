"""The web server of the live view: where it listens, and what is shown to each who looks."""

from __future__ import annotations

import contextlib
import io
import math
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..registry import warn

HOST, PORT = "127.0.0.1", 8080
TRIES = 100  # ports from the first on, where none is asked for
COARSE, FINE = 96, 256  # rows of a picture while the camera moves, and once it rests
REST = 0.3  # seconds without a move after which it rests

Draw = Callable[[Tensor, float, int, int], np.ndarray]
"""(c2w [4,4], fovy in radians, height, width) -> bytes [height, width, 3]."""


def open_server(address: str) -> Any:
    """Starts a viser server.

    Args:
        address: "" for the first free port from 8080 on, PORT, or HOST:PORT.

    Raises:
        UserError: viser is not installed, the address is none, or its port is taken.
    """
    try:
        import viser
    except ImportError:
        raise UserError('the live view needs viser; pip install "threestudio-pullback[view]"') from None
    match = re.fullmatch(r"(?:(?P<host>[^:\s]+):)?(?P<port>\d{1,5})?", address)
    if match is None or int(match["port"] or PORT) > 65535:
        raise UserError(f"--view takes a port, or HOST:PORT, not {address!r}")
    host, asked = match["host"] or HOST, match["port"]
    port = _free(host, int(asked or PORT), 1 if asked else TRIES)
    # of a tab that was closed while its picture was drawn
    warnings.filterwarnings("ignore", message=r"Queued a \w+ on a closed connection")
    with contextlib.redirect_stdout(io.StringIO()):  # viser's own words, in a box
        server = viser.ViserServer(host=host, port=port, verbose=False)
    if server.get_port() != port:  # somebody else was faster, and viser takes the next one
        close_server(server)
        raise UserError(f"port {port} is taken; give another one, or none")
    server.request_share_url = lambda *_: None  # type: ignore[method-assign]  # which would go through another's machine
    server.gui.configure_theme(show_share_button=False, show_logo=False, dark_mode=False)
    server.scene.set_up_direction("+z")
    server.initial_camera.fov = math.radians(40)
    return server


def close_server(server: Any) -> None:
    """Ends it, without viser's own words."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def address_of(server: Any) -> str:
    """Where a browser finds it."""
    return f"http://{server.get_host().replace('0.0.0.0', 'localhost')}:{server.get_port()}"


def _free(host: str, port: int, tries: int) -> int:
    for number in range(port, min(port + tries, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
                return probe.getsockname()[1]
            except OSError as e:
                reason = e.strerror
    what = f"port {port}" if tries == 1 else f"every port from {port} to {port + tries - 1}"
    raise UserError(f"--view cannot listen at {host}: {what}: {reason}; give another HOST:PORT")


def pose(camera: Any) -> Tensor:
    """The camera-to-world matrix [4,4] of a viser camera, which looks along +z with y down; ours looks along -z."""
    from viser.transforms import SO3

    c2w = np.eye(4)
    c2w[:3, :3] = SO3(np.asarray(camera.wxyz)).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    c2w[:3, 3] = camera.position
    return torch.from_numpy(c2w).float()


def turned(c2w: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The other way: viser's wxyz [4] and position [3] of a camera-to-world matrix."""
    from viser.transforms import SO3

    matrix = c2w.detach().cpu().double().numpy()
    return SO3.from_matrix(matrix[:3, :3] @ np.diag([1.0, -1.0, -1.0])).wxyz, matrix[:3, 3]


class Screens:
    """Draws, in a thread of its own, what the camera of each client sees, as the background of its scene.

    Args:
        server: viser's.
        draw: Is called in that thread only.

    Attributes:
        share: Most of the time that drawing takes, 0 to 1, so that a run beside it goes on.
    """

    def __init__(self, server: Any, draw: Draw) -> None:
        self.server, self.draw, self.share = server, draw, 1.0
        self._due: dict[int, tuple[float, int]] = {}  # client: time of its last move, rows of the picture that it needs
        self._change, self._ended = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="pullback-view", daemon=True)
        server.on_client_connect(self._enter)
        server.on_client_disconnect(lambda client: self._due.pop(client.client_id, None))
        self._thread.start()

    def again(self) -> None:
        """What is seen has changed: draws it anew for all."""
        with self._change:
            for client in self.server.get_clients():
                self._due[client] = (0.0, FINE)
            self._change.notify()

    def close(self) -> None:
        """Ends the thread."""
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join(timeout=10)

    def _enter(self, client: Any) -> None:
        client.camera.on_update(lambda _: self._moved(client.client_id))
        self._moved(client.client_id)

    def _moved(self, client: int) -> None:
        with self._change:
            self._due[client] = (time.monotonic(), COARSE)
            self._change.notify()

    def _next(self) -> tuple[int, float, int] | None:
        """The client that has waited longest, or None at the end; waits until there is one."""
        with self._change:
            while not self._ended:
                now = time.monotonic()
                ready = [(at, c, rows) for c, (at, rows) in self._due.items() if rows == COARSE or now - at >= REST]
                if ready:
                    at, client, rows = min(ready)
                    return client, at, rows
                self._change.wait(REST / 3 if self._due else None)
        return None

    def _run(self) -> None:
        while (found := self._next()) is not None:
            client, at, rows = found
            began = time.monotonic()
            try:
                self._show(client, rows)
            except Exception as e:  # a tab that was closed meanwhile, or a field that cannot be drawn: the run goes on
                if client in self.server.get_clients():
                    warn("the live view cannot draw: %s", e)
            with self._change:
                if self._due.get(client) == (at, rows):  # not moved meanwhile
                    if rows == COARSE:
                        self._due[client] = (at, FINE)
                    else:
                        del self._due[client]
            took = time.monotonic() - began
            with self._change:
                if self.share < 1 and not self._ended:
                    self._change.wait_for(lambda: self._ended or self.share == 1, took * (1 / self.share - 1))

    def _show(self, number: int, rows: int) -> None:
        client = self.server.get_clients().get(number)
        if client is None:
            with self._change:
                self._due.pop(number, None)
            return
        camera = client.camera
        width = min(4 * rows, max(1, round(rows * camera.aspect)))
        picture = self.draw(pose(camera), float(camera.fov), rows, width)
        client.scene.set_background_image(picture, format="jpeg", jpeg_quality=85)
