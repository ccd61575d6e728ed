"use strict";
// The object of a run, turned by mouse, touch and keys. glTF: y up, the front at +z. The file is in the page's link to it.
{
const $ = (selector) => document.querySelector(selector);
const stage = $("#stage"), viewer = $("#viewer");
const RADIANS = Math.PI / 180;
const START = { azimuth: 30, elevation: 20 };
const FOV = 35;
const MARGIN = 1.15;  // with room for the buttons
let renderer, scene, camera, controls, near, due = 0, saying = 0;

/** The colours as the file has them, or shaded by lamps. */
function light(lit) {
  scene.traverse((part) => {
    if (!part.isMesh) return;
    part.userData.lit ??= part.material;
    const { map, vertexColors, color } = part.userData.lit;
    part.userData.unlit ??= new THREE.MeshBasicMaterial({ map, vertexColors, color });
    part.material = lit ? part.userData.lit : part.userData.unlit;
  });
  $("[data-do=lamp]").setAttribute("aria-pressed", lit);
}

/** A ball round all points about the middle of their box; the ball of a box is larger than what is in it. */
function bounds() {
  const box = new THREE.Box3().setFromObject(scene), ball = new THREE.Sphere(box.getCenter(new THREE.Vector3()), 0);
  const point = new THREE.Vector3();
  scene.traverse((part) => {
    const places = part.isMesh ? part.geometry.attributes.position : { count: 0 };
    for (let i = 0; i < places.count; i++) {
      const far = part.localToWorld(point.fromBufferAttribute(places, i)).distanceTo(ball.center);
      ball.radius = Math.max(ball.radius, far);
    }
  });
  return ball;
}

function home() {
  const { azimuth, elevation } = START;
  const a = azimuth * RADIANS, e = elevation * RADIANS;
  const narrow = Math.min(1, camera.aspect);  // a tall window is narrower than it is high
  camera.position.set(Math.cos(e) * Math.sin(a), Math.sin(e), Math.cos(e) * Math.cos(a)).multiplyScalar(near / narrow);
  camera.position.add(controls.target);
  controls.update();
}

function resize() {
  const { width, height } = stage.getBoundingClientRect();
  if (!width || !height) return;
  renderer.setPixelRatio(Math.min(devicePixelRatio || 1, 2));
  renderer.setSize(width, height, false);
  camera.aspect = width / height;
  camera.updateProjectionMatrix();
  ask();
}

function frame() {
  due = 0;
  controls.update();  // turns, where it turns by itself, and asks for the next frame by its event
  renderer.render(scene, camera);
  stage.dataset.drawn = "webgl";
  if (controls.autoRotate) ask();
}

function ask() {
  due ||= requestAnimationFrame(frame);
}

/** Says which side is seen; a while after the last move, so that a screen reader is not flooded. */
function say() {
  clearTimeout(saying);
  if (controls.autoRotate) return;
  saying = setTimeout(() => {
    const turned = Math.round(controls.getAzimuthalAngle() / RADIANS), up = 90 - Math.round(controls.getPolarAngle() / RADIANS);
    const side = Math.abs(turned) === 180 ? "the back" : turned ? `${Math.abs(turned)}° to the ${turned > 0 ? "right" : "left"}` : "the front";
    $("#where").textContent = `Seen from ${side}${up ? `, ${Math.abs(up)}° ${up > 0 ? "above" : "below"}` : ""}`;
  }, 150);
}

function spin(on) {
  controls.autoRotate = on;
  $("[data-do=spin]").setAttribute("aria-pressed", on);
  say();
  ask();
}

/** What a person does stops the turning, but for the button that starts it. */
function by(act) {
  return () => {
    spin(false);
    $("#help").classList.add("known");
    act();
    say();
    ask();
  };
}

const STEP = 15 * RADIANS;
const DO = {
  left: by(() => controls.rotateLeft(STEP)),
  right: by(() => controls.rotateLeft(-STEP)),
  up: by(() => controls.rotateUp(STEP)),
  down: by(() => controls.rotateUp(-STEP)),
  closer: by(() => controls.dollyIn(1.25)),
  wider: by(() => controls.dollyOut(1.25)),
  home: by(home),
  spin: () => spin(!controls.autoRotate),
  lamp: () => { light($("[data-do=lamp]").getAttribute("aria-pressed") !== "true"); ask(); },
  fill: () => document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen(),
};
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  "+": "closer", "=": "closer", "-": "wider", _: "wider", Home: "home", 0: "home", f: "fill", l: "lamp", s: "spin",
};

async function setUp() {
  if (!document.createElement("canvas").getContext("webgl2")) {
    $("#where").textContent = "This browser has no WebGL, which turning the object needs; here is a picture of it";
    return;
  }
  renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true });
  const content = await (await fetch($("#mesh").getAttribute("href"))).arrayBuffer();
  scene = (await new THREE.GLTFLoader().parseAsync(content, "")).scene;
  const ball = bounds();
  camera = new THREE.PerspectiveCamera(FOV, 1, ball.radius / 50, ball.radius * 50);
  near = MARGIN * ball.radius / Math.sin(FOV / 2 * RADIANS);
  const lamp = new THREE.DirectionalLight(0xffffff, 2.2);
  lamp.position.set(1, 2, 1.5);
  camera.add(lamp);
  scene.add(camera, new THREE.AmbientLight(0xffffff, 1.2));
  renderer.domElement.setAttribute("aria-hidden", "true");
  stage.append(renderer.domElement);
  controls = new THREE.OrbitControls(camera, renderer.domElement);
  Object.assign(controls, {
    enablePan: false, autoRotateSpeed: 4, minDistance: near / 4, maxDistance: near * 4,
    maxPolarAngle: (90 - Number(stage.dataset.lowest)) * RADIANS,  // what no camera of the run has seen is not shown
  });
  controls.target.copy(ball.center);
  resize();
  home();
  light(false);
  controls.addEventListener("change", () => { say(); ask(); });
  controls.addEventListener("start", by(() => stage.classList.add("held")));
  controls.addEventListener("end", () => stage.classList.remove("held"));
  new ResizeObserver(resize).observe(stage);
  viewer.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    DO[KEYS[event.key]]();
  });
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => DO[button.dataset.do]());
  }
  if (!document.fullscreenEnabled) $("[data-do=fill]").hidden = true;
  $("#picture").hidden = true;
  $("#bar").hidden = false;
  spin(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}

setUp();
}
