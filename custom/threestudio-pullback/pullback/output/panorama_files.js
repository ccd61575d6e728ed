"use strict";
// A panorama seen from its middle. World: x forward, y left, z up; azimuth grows to the left. No library, no network:
// photo-sphere-viewer 5.15.1 makes the page 0.6 MB larger, and shows nothing where there is no WebGL 2.
const $ = (selector) => document.querySelector(selector);
const part = $("#viewer[data-part]");  // of a page with more in it
const stage = $("#stage"), picture = $("#picture");
const RADIANS = Math.PI / 180;
const FOV = { start: 75, least: 15, most: 120 };  // degrees, along the longer side of the window
const MOST_PIXELS = 250000;  // that the processor draws in one go where there is no WebGL
const still = matchMedia("(prefers-reduced-motion: reduce)");

const view = { azimuth: 0, elevation: 0, fov: FOV.start };  // what is drawn
const goal = { ...view };  // where the keys and buttons have asked it to go
let canvas, draw, due = 0, before = 0, saying = 0;

/** The camera's axes, and how far its right and upper edges lie from the middle at distance 1. */
function camera() {
  const a = view.azimuth * RADIANS, e = view.elevation * RADIANS;
  const long = Math.tan(view.fov * RADIANS / 2), longest = Math.max(canvas.width, canvas.height);
  return {
    forward: [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)],
    right: [Math.sin(a), -Math.cos(a), 0],
    up: [-Math.sin(e) * Math.cos(a), -Math.sin(e) * Math.sin(a), Math.cos(e)],
    reach: [long * canvas.width / longest, long * canvas.height / longest],
  };
}

// ---- two ways to draw

const CORNERS = `#version 300 es
in vec2 corner; out vec2 place;
void main() { place = corner; gl_Position = vec4(corner, 0.0, 1.0); }`;
const RAYS = `#version 300 es
precision highp float;
uniform sampler2D panorama; uniform vec3 forward, right, up; uniform vec2 reach;
in vec2 place; out vec4 color;
const float PI = 3.14159265358979;
void main() {
  vec3 d = forward + place.x * reach.x * right + place.y * reach.y * up;
  vec2 at = vec2(0.5 - atan(d.y, d.x) / (2.0 * PI), 0.5 - atan(d.z, length(d.xy)) / PI);
  color = vec4(texture(panorama, at).rgb, 1.0);
}`;

/** A function that draws the view by WebGL 2, or null where the browser has none. */
function byGraphics() {
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, CORNERS], [gl.FRAGMENT_SHADER, RAYS]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
  const corner = gl.getAttribLocation(program, "corner");
  gl.enableVertexAttribArray(corner);
  gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, atMost(gl.getParameter(gl.MAX_TEXTURE_SIZE)));
  // no mipmaps: at ±180° the lookup jumps from one edge to the other, which they would show as a line
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  const uniform = (name) => gl.getUniformLocation(program, name);
  const places = { forward: uniform("forward"), right: uniform("right"), up: uniform("up") }, reach = uniform("reach");
  return () => {
    const seen = camera();
    gl.viewport(0, 0, canvas.width, canvas.height);
    for (const name in places) gl.uniform3fv(places[name], seen[name]);
    gl.uniform2fv(reach, seen.reach);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  };
}

/** A function that draws the view pixel by pixel. */
function byProcessor() {
  const context = canvas.getContext("2d", { alpha: false });
  const width = picture.naturalWidth, height = picture.naturalHeight;
  const from = new Uint32Array(pixelsOf(picture, width, height).getImageData(0, 0, width, height).data.buffer);
  return () => {
    const { forward, right, up, reach } = camera();
    const image = context.createImageData(canvas.width, canvas.height), to = new Uint32Array(image.data.buffer);
    for (let i = 0, n = 0; i < canvas.height; i++) {
      const v = (1 - (2 * i + 1) / canvas.height) * reach[1];
      for (let j = 0; j < canvas.width; j++, n++) {
        const u = ((2 * j + 1) / canvas.width - 1) * reach[0];
        const x = forward[0] + u * right[0] + v * up[0], y = forward[1] + u * right[1] + v * up[1];
        const z = forward[2] + v * up[2];
        const column = Math.floor((0.5 - Math.atan2(y, x) / (2 * Math.PI)) * width) % width;
        const row = Math.min(height - 1, Math.floor((0.5 - Math.atan2(z, Math.hypot(x, y)) / Math.PI) * height));
        to[n] = from[row * width + column];
      }
    }
    context.putImageData(image, 0, 0);
  };
}

/** The picture, made smaller where it is wider than a texture may be. */
function atMost(size) {
  if (picture.naturalWidth <= size) return picture;
  return pixelsOf(picture, size, Math.round(size * picture.naturalHeight / picture.naturalWidth)).canvas;
}

function pixelsOf(image, width, height) {
  const paper = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  paper.drawImage(image, 0, 0, width, height);
  return paper;
}

// ---- when to draw

function setUp(graphics) {
  canvas?.remove();
  canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  stage.append(canvas);
  draw = graphics ? byGraphics() : byProcessor();
  if (!draw) return setUp(false);
  stage.dataset.drawn = graphics ? "webgl" : "2d";
  canvas.addEventListener("webglcontextlost", () => setUp(false));
  resize();
}

function resize() {
  const { width, height } = stage.getBoundingClientRect(), density = devicePixelRatio || 1;
  const most = stage.dataset.drawn === "2d" ? MOST_PIXELS : Infinity;
  const scale = Math.min(density, Math.sqrt(most / Math.max(1, width * height)));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  draw();
}

/** Moves the view toward the goal, frame by frame, until it is there. */
function frame(now) {
  const part = still.matches ? 1 : 1 - Math.exp(-Math.min(now - before, 50) / 70);
  before = now;
  due = 0;
  let off = 0;
  for (const name in goal) {
    view[name] += part * (goal[name] - view[name]);
    off = Math.max(off, Math.abs(goal[name] - view[name]));
  }
  if (off < 0.02) Object.assign(view, goal);
  draw();
  if (off >= 0.02) ask();
  else say();
}

function ask() {
  if (due) return;
  due = requestAnimationFrame((now) => { before ||= now - 16; frame(now); });
}

/** Sends the view to a goal; `atOnce` without a way there, as under a finger. */
function go(azimuth, elevation, fov, atOnce = false) {
  Object.assign(goal, {
    azimuth, elevation: Math.max(-90, Math.min(90, elevation)), fov: Math.max(FOV.least, Math.min(FOV.most, fov)),
  });
  if (atOnce) Object.assign(view, goal);
  if (!due) before = 0;
  $("#help").classList.add("known");
  ask();
}

/** Says where it looks; a while after the last move, so that a screen reader is not flooded. */
function say() {
  clearTimeout(saying);
  saying = setTimeout(() => {
    const turned = Math.round(((goal.azimuth + 180) % 360 + 360) % 360 - 180), tilted = Math.round(goal.elevation);
    const side = turned ? `${Math.abs(turned)}° ${turned > 0 ? "left" : "right"}` : "straight ahead";
    const height = tilted ? `, ${Math.abs(tilted)}° ${tilted > 0 ? "up" : "down"}` : "";
    $("#where").textContent = `${side}${height}, ${Math.round(goal.fov)}° wide`;
  }, 150);
}

// ---- keys, buttons, mouse and touch

const turn = (by, tilt) => go(goal.azimuth + by * goal.fov / 5, goal.elevation + tilt * goal.fov / 5, goal.fov);
const zoom = (by) => go(goal.azimuth, goal.elevation, goal.fov * by);
const DO = {
  left: () => turn(1, 0),
  right: () => turn(-1, 0),
  up: () => turn(0, 1),
  down: () => turn(0, -1),
  closer: () => zoom(1 / 1.25),
  wider: () => zoom(1.25),
  // the short way round
  home: () => go(360 * Math.round(goal.azimuth / 360), 0, FOV.start),
  fill: () => document.fullscreenElement ? document.exitFullscreen() : (part ?? document.documentElement).requestFullscreen(),
};
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  "+": "closer", "=": "closer", "-": "wider", _: "wider", Home: "home", 0: "home", f: "fill",
};

(part ?? window).addEventListener("keydown", (event) => {
  if (!draw || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  DO[KEYS[event.key]]();
});
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => DO[button.dataset.do]());
}

const fingers = new Map();
const apart = () => {
  const [a, b] = [...fingers.values()];
  return Math.hypot(a.x - b.x, a.y - b.y);
};
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  stage.classList.add("held");
});
stage.addEventListener("pointermove", (event) => {
  const finger = fingers.get(event.pointerId);
  if (!finger || !draw) return;
  const now = { x: event.clientX, y: event.clientY };
  if (fingers.size === 2) {
    const gap = apart();
    fingers.set(event.pointerId, now);
    if (gap > 0 && apart() > 0) go(view.azimuth, view.elevation, view.fov * gap / apart(), true);
    return;
  }
  fingers.set(event.pointerId, now);
  // degrees per pixel in the middle of the picture, so that what is held stays under the finger
  const longest = Math.max(stage.clientWidth, stage.clientHeight);
  const degrees = 2 * Math.tan(view.fov * RADIANS / 2) / longest / RADIANS;
  const side = Math.max(0.2, Math.cos(view.elevation * RADIANS));
  go(view.azimuth + (now.x - finger.x) * degrees / side, view.elevation + (now.y - finger.y) * degrees, view.fov, true);
});
for (const end of ["pointerup", "pointercancel"]) {
  stage.addEventListener(end, (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) stage.classList.remove("held");
  });
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 500));
}, { passive: false });

picture.decode().then(() => {
  picture.hidden = true;
  setUp(true);
  new ResizeObserver(resize).observe(stage);
  $("#bar").hidden = false;
  if (!document.fullscreenEnabled) $("[data-do=fill]").hidden = true;
  say();
});
