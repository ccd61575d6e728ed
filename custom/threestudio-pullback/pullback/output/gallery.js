"use strict";
// All samples turn in step; rows are ordered and filtered.
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const angle = $("#angle"), play = $("#play");
const PERIOD = 6000;  // milliseconds of a turn
const seen = new Set();
let degrees = 0, before = 0, running = 0;

/** Shows the frame of the angle; the frames stand side by side in one picture. */
function show(image) {
  const frames = Number(image.dataset.frames);
  const frame = Math.floor(degrees / 360 * frames + 1e-6) % frames;
  image.style.transform = `translateX(${-100 * frame / frames}%)`;
}

function turn(to) {
  degrees = ((to % 360) + 360) % 360;
  angle.value = Math.round(degrees) % 360;
  seen.forEach(show);
}

function step(now) {
  turn(degrees + (now - before) / PERIOD * 360);
  before = now;
  running = requestAnimationFrame(step);
}

function keepTurning(on) {
  cancelAnimationFrame(running);
  running = 0;
  play.setAttribute("aria-pressed", on);
  play.textContent = on ? "Pause" : "Turn";
  if (on) {
    before = performance.now();
    running = requestAnimationFrame(step);
  }
}

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) seen.delete(target);
    else {
      seen.add(target);
      show(target);
    }
  }
}, { rootMargin: "200px" });
all(".frame img").forEach((image) => sight.observe(image));

play.addEventListener("click", () => keepTurning(!running));
angle.addEventListener("input", () => { keepTurning(false); turn(Number(angle.value)); });
for (const frame of all(".frame")) {
  frame.addEventListener("pointerdown", (event) => {
    keepTurning(false);
    frame.setPointerCapture(event.pointerId);
    const start = event.clientX, from = degrees, width = frame.clientWidth;
    const move = (now) => turn(from - (now.clientX - start) / width * 180);
    frame.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, () => frame.removeEventListener("pointermove", move), { once: true });
    }
  });
}

const ORDERS = {
  // what has no number comes last
  consistency: (a, b) => (Number(a.dataset.consistency || Infinity) - Number(b.dataset.consistency || Infinity)) || 0,
  seed: (a, b) => a.dataset.seed - b.dataset.seed,
  started: (a, b) => b.dataset.started.localeCompare(a.dataset.started),
};
function order() {
  for (const row of all(".row")) {
    row.dataset.order = $("#order").value;
    row.append(...[...row.children].sort(ORDERS[row.dataset.order]));
  }
}

function filter() {
  const wanted = $("#search").value.trim().toLowerCase();
  let count = 0;
  for (const section of all(".prompt")) {
    section.hidden = !section.dataset.prompt.toLowerCase().includes(wanted);
    if (!section.hidden) count += section.querySelectorAll(".card").length;
  }
  $("#found").textContent = `${count} ${count === 1 ? "sample" : "samples"}`;
}

$("#order").addEventListener("change", order);
$("#search").addEventListener("input", filter);
$("#controls").addEventListener("submit", (event) => event.preventDefault());
filter();
keepTurning(!matchMedia("(prefers-reduced-motion: reduce)").matches);
