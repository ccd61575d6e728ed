"""Meshes as three.js draws them in headless Chromium, for tests and for tools/look_at_mesh.py.

three.js is the one that pages of runs have.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from browsing import chromium
from PIL import Image
from pullback.output import webpage

PAGE = """<!doctype html><meta charset="utf-8"><title>a mesh</title><link rel="icon" href="data:,">
<script src="/three.js"></script>
<script>
// lit: 'lamps' keeps the file's materials and lights them; 'none' shows their colours as they are
window.show = async (file, views, lit, size, distance, fovy, grey) => {
  const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
  renderer.setSize(size, size);
  const scene = new THREE.Scene();
  scene.background = new THREE.Color().setRGB(grey, grey, grey, 'srgb');
  const object = (await new THREE.GLTFLoader().loadAsync(`${file}?${performance.now()}`)).scene;
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
    """A viewer; raises browsing.Unavailable where there is no browser or no Playwright."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "index.html").write_text(PAGE)
        (site / "three.js").symlink_to(webpage.WEB / "three.js")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with chromium() as browser:
                tab = browser.new_page()
                errors: list[str] = []
                tab.on("pageerror", lambda error: errors.append(str(error)))
                tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
                tab.goto(f"http://127.0.0.1:{server.server_port}/index.html")
                tab.wait_for_selector("html[data-ready]", state="attached")
                yield Viewer(tab, site, errors)
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
