"""Meshes as three.js draws them in headless Chromium, for tests and for tools/look_at_mesh.py.

three.js comes from npm, in a fixed version, into a cache outside of the checkout.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
THREE = "0.187.0"

PAGE = """<!doctype html><meta charset="utf-8"><title>a mesh</title><link rel="icon" href="data:,">
<script type="importmap">
{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}
</script>
<script type="module">
import * as THREE from 'three';
import {GLTFLoader} from 'three/addons/loaders/GLTFLoader.js';

// lit: 'lamps' keeps the file's materials and lights them; 'none' shows their colours as they are
window.show = async (file, views, lit, size, distance, fovy, grey) => {
  const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
  renderer.setSize(size, size);
  const scene = new THREE.Scene();
  scene.background = new THREE.Color().setRGB(grey, grey, grey, THREE.SRGBColorSpace);
  const object = (await new GLTFLoader().loadAsync(`${file}?${performance.now()}`)).scene;
  if (lit === 'none') object.traverse((part) => {
    if (!part.isMesh) return;
    const {map, vertexColors, color} = part.material;
    part.material = new THREE.MeshBasicMaterial({map, vertexColors, color});
  });
  scene.add(object);
  const lamp = new THREE.DirectionalLight(0xffffff, Math.PI);
  const camera = new THREE.PerspectiveCamera(fovy, 1, 0.01, 100);
  scene.add(lamp);
  const pictures = [];
  for (const [elevation, azimuth] of views) {
    const e = elevation * Math.PI / 180, a = azimuth * Math.PI / 180;
    // glTF has y up and its front at +z; a camera that goes round to its right comes to +x
    camera.position.set(Math.cos(e) * Math.sin(a), Math.sin(e), Math.cos(e) * Math.cos(a)).multiplyScalar(distance);
    camera.up.set(-Math.sin(e) * Math.sin(a), Math.cos(e), -Math.sin(e) * Math.cos(a));
    camera.lookAt(0, 0, 0);
    lamp.position.copy(camera.position);
    renderer.render(scene, camera);
    pictures.push(renderer.domElement.toDataURL('image/png'));
  }
  renderer.dispose();
  return pictures;
};
document.documentElement.dataset.ready = '1';
</script>
"""


class Unavailable(Exception):
    """What is not there, and how to get it."""


def three() -> Path:
    """The folder of three.js."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "threestudio-pullback"
    found = cache / f"three-{THREE}" / "node_modules" / "three"
    if not found.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("no npm: apt-get install npm")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:  # whole or not at all, also beside another process
            part = Path(folder) / "part"
            quietly = ("--ignore-scripts", "--no-audit", "--no-fund")
            install = [npm, "install", "--prefix", part, *quietly, f"three@{THREE}"]
            done = subprocess.run(install, capture_output=True, text=True, timeout=120)
            if done.returncode:
                raise Unavailable(f"npm cannot install three@{THREE}: {done.stderr.strip().splitlines()[-1:]}")
            with contextlib.suppress(OSError):  # another one was there first
                part.rename(cache / f"three-{THREE}")
    return found


class Viewer:
    """A page that draws glb files; made by `open_viewer`."""

    def __init__(self, tab: Any, site: Path, errors: list[str]) -> None:
        self.tab, self.site, self.errors = tab, site, errors

    def draw(
        self,
        file: Path,
        views: Sequence[tuple[float, float]],
        lit: str,
        size: int,
        distance: float,
        fovy: float,
        grey: float,
    ) -> list[np.ndarray]:
        """Pictures [size, size, 3] in [0, 1] of cameras that look at the origin.

        Args:
            file: A glb.
            views: Elevation and azimuth in degrees; azimuth 0 is the file's front.
            lit: "lamps": the file's materials, and a lamp at the camera; "none": their colours as they are.
            size: In pixels.
            distance: Of the camera.
            fovy: In degrees.
            grey: Of the background.
        """
        shutil.copy(file, self.site / "drawn.glb")
        arguments = ["drawn.glb", [list(view) for view in views], lit, size, distance, fovy, grey]
        drawn = self.tab.evaluate("(a) => show(...a)", arguments)
        assert self.errors == []
        content = [base64.b64decode(url.partition(",")[2]) for url in drawn]
        return [np.asarray(Image.open(io.BytesIO(c)).convert("RGB")) / 255 for c in content]


@contextlib.contextmanager
def open_viewer() -> Iterator[Viewer]:
    """A viewer; raises Unavailable where there is no browser, Playwright or three.js."""
    browser_path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not browser_path:
        raise Unavailable("no Chromium: apt-get install chromium-headless-shell")
    try:
        from playwright import sync_api
    except ImportError as e:
        raise Unavailable("no Playwright: pip install playwright") from e
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "index.html").write_text(PAGE)
        (site / "three").symlink_to(three())
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with sync_api.sync_playwright() as driver:
                options = ["--no-sandbox", "--enable-unsafe-swiftshader"]
                browser = driver.chromium.launch(executable_path=browser_path, args=options)
                tab = browser.new_page()
                errors: list[str] = []
                tab.on("pageerror", lambda error: errors.append(str(error)))
                tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
                tab.goto(f"http://127.0.0.1:{server.server_port}/index.html")
                tab.wait_for_selector("html[data-ready]", state="attached")
                yield Viewer(tab, site, errors)
                browser.close()
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
