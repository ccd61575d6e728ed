"use strict";
// Turntables on one clock, sorting, filters, curves. No library, no network.

const $ = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const data = JSON.parse($("#figures").textContent);
const pictures = JSON.parse($("#pictures").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; texts stay texts. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "rect"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** As `compact` of page.py: three significant digits with the unit, a share in per cent. */
function compact(value, unit = "") {
  if (unit === "share") {
    const percent = 100 * value;
    return (Math.abs(percent) >= 9.95 || percent === 0 ? percent.toFixed(0) : String(Number(percent.toPrecision(2)))) + "\u202f%";
  }
  const size = Math.abs(value);
  const digits = (Number.isInteger(value) || size >= 999.5) && size < 1e9
    ? value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, "\u202f")
    : value.toPrecision(3);
  return unit ? `${digits}\u202f${unit}` : digits;
}

function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* a browser may forbid it: the choice then lasts a visit */ }
}
function recall(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

// ---- light and dark

const theme = $("#theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function showTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-pressed", String((name || (prefersDark.matches ? "dark" : "light")) === "dark"));
}
showTheme(recall("pullback-theme"));
prefersDark.addEventListener("change", () => showTheme(document.documentElement.dataset.theme));
theme.addEventListener("click", () => {
  const name = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  showTheme(name);
  remember("pullback-theme", name);
});

// ---- what tells methods apart: colour, marker, dashes

const MARKERS = [
  ["", "M0,-4.5A4.5,4.5 0 1 1 -.01,-4.5Z"],
  ["", "M-4,-4H4V4H-4Z"],
  ["", "M0,-5.5L5,4H-5Z"],
  ["open", "M0,-5.5L5.5,0L0,5.5L-5.5,0Z"],
  ["bare", "M-4,-4L4,4M-4,4L4,-4"],
  ["open", "M0,-4.5A4.5,4.5 0 1 1 -.01,-4.5Z"],
  ["bare", "M-5,0H5M0,-5V5"],
  ["open", "M-4,-4H4V4H-4Z"],
];
const DASHES = ["", "9 4", "2 3", "9 3 2 3", "5 3", "14 4", "2 6", "9 3 2 3 2 3"];
const colour = (n) => `--c: var(--key-${n % 8})`;
const dashes = (n) => DASHES[(n + Math.floor(n / 8) * 3) % 8];
function marker(n, x = 0, y = 0) {
  const [kind, d] = MARKERS[(n + Math.floor(n / 8)) % 8];
  return make("path", { class: `marker ${kind}`, d, transform: `translate(${x} ${y})` });
}
for (const key of all(".key[data-key]")) {
  const n = Number(key.dataset.key);
  key.append(make("svg", { viewBox: "-7 -7 14 14", style: colour(n) }, marker(n)));
}

// ---- turntables: one clock turns all that can be seen

const SECONDS_A_TURN = 4;
const strips = new Set(); // those in sight
const play = $("#play"), slider = $("#angle"), speed = $("#speed"), turntables = $("#turntables");
let angle = 0, playing = false, last = null, turntablesInSight = false;

function load(strip) {
  const run = data.runs[strip.dataset.strip];
  strip.style.backgroundImage = `url("${pictures[strip.dataset.strip]}")`;
  strip.style.backgroundSize = `${run.frames * 100}% 100%`;
  turn(strip);
}
function turn(strip) {
  const { frames } = data.runs[strip.dataset.strip];
  const frame = Math.floor((angle / 360) * frames) % frames;
  if (strip.dataset.frame === String(frame)) return;
  strip.dataset.frame = frame;
  strip.style.backgroundPositionX = frames > 1 ? `${(frame / (frames - 1)) * 100}%` : "0";
}
function setAngle(degrees) {
  angle = ((degrees % 360) + 360) % 360;
  const whole = Math.floor(angle);
  if (slider.valueAsNumber !== whole) slider.value = whole;
  slider.setAttribute("aria-valuetext", `${whole} degrees`);
  $("#degrees").value = `${whole}°`;
  strips.forEach(turn);
}
function tick(now) {
  if (!playing) return;
  if (last !== null) setAngle(angle + ((now - last) / 1000) * (360 / SECONDS_A_TURN) * Number(speed.value));
  last = now;
  requestAnimationFrame(tick);
}
function setPlaying(on) {
  if (playing === on) return;
  playing = on;
  last = null;
  play.textContent = on ? "Pause" : "Play";
  if (on) requestAnimationFrame(tick);
}

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      strips.add(target);
      if (!target.style.backgroundImage) load(target);
      turn(target);
    } else strips.delete(target);
  }
}, { rootMargin: "200px" });
all(".strip").forEach((strip) => sight.observe(strip));
new IntersectionObserver(([entry]) => { turntablesInSight = entry.isIntersecting; }).observe(turntables);
addEventListener("beforeprint", () => {
  all(".strip").forEach((strip) => strip.style.backgroundImage || load(strip));
  $(".definitions").open = true;
});

play.addEventListener("click", () => setPlaying(!playing));
slider.addEventListener("input", () => { setPlaying(false); setAngle(slider.valueAsNumber); });

/** Whether a key belongs to the turntables: not typed into a control, and they are what is looked at. */
function ours(target) {
  if (target.closest("dialog")) return !target.closest("button");
  if (target.closest(".tile")) return true;
  return turntablesInSight && !target.closest("button, input, select, summary, a, .plot, .scroll");
}
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !ours(event.target)) return;
  const step = { ArrowLeft: -15, ArrowRight: 15 }[event.key];
  if (event.key === " ") { if (!event.repeat) setPlaying(!playing); }
  else if (step) { setPlaying(false); setAngle(angle + step); }
  else return;
  event.preventDefault();
});
// a button would take the space bar's release for a click
document.addEventListener("keyup", (event) => { if (event.key === " " && event.target.closest(".tile")) event.preventDefault(); });
setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);

// ---- one run, enlarged

const dialog = $("#run");
document.addEventListener("click", (event) => {
  const tile = event.target.closest("button.tile");
  if (tile) enlarge(Number(tile.dataset.run));
  if (event.target === dialog) dialog.close();
});
function enlarge(i) {
  const run = data.runs[i];
  const method = data.methods.find(({ name }) => name === run.method);
  $("#run-title").textContent = `${method.title}, “${run.prompt}”, seed ${run.seed}`;
  $(".said", dialog).textContent = run.status === "done" ? "" : `${run.status}: ${run.reason || "no reason was recorded"}`;
  $(".said", dialog).className = `said status ${run.status}`;
  $(".large", dialog).replaceChildren();
  if (pictures[i]) {
    const strip = make("span", { class: "strip", "data-strip": i });
    $(".large", dialog).append(make("span", { class: "frame", role: "img", "aria-label": "Turntable" }, strip));
    load(strip);
    strips.add(strip);
    dialog.addEventListener("close", () => strips.delete(strip), { once: true });
  }
  const measured = data.measures.filter(({ name }) => name in run.measures);
  $(".measured", dialog).replaceChildren(...measured.map(({ name, title, unit }) =>
    make("div", {}, make("dt", {}, title), make("dd", {}, compact(run.measures[name], unit)))));
  $(".command code", dialog).textContent = run.command;
  dialog.showModal();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const code = $("code", button.parentElement);
  let copied = true;
  try { await navigator.clipboard.writeText(code.textContent); }
  catch {
    getSelection().selectAllChildren(code);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Selected";
  $("#said").textContent = copied ? "The command was copied." : "The command is selected.";
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
});

// ---- the table: the better end first, then the other; rows without a value last

const results = $(".results");
for (const button of all(".sort", results)) button.addEventListener("click", () => {
  const header = button.closest("th");
  const headers = all("th[aria-sort]", results);
  const column = headers.indexOf(header);
  const before = header.getAttribute("aria-sort");
  const first = header.dataset.better === "higher" ? "descending" : "ascending";
  const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
  headers.forEach((other) => other.setAttribute("aria-sort", other === header ? order : "none"));
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent.trim() : cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const body = results.tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (column === 0 ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
  $("#sorted").textContent = `Sorted by ${button.textContent}, ${order}.`;
});

// ---- filters

const search = $("#search"), checks = all(".method-on");
const shown = (name) => checks.some((check) => check.value === name && check.checked);
function filter() {
  const wanted = search.value.trim().toLowerCase();
  const matches = (prompt) => prompt.toLowerCase().includes(wanted);
  for (const part of all("main [data-method], main [data-prompt]")) {
    const { method, prompt } = part.dataset;
    part.hidden = (method !== undefined && !shown(method)) || (prompt !== undefined && !matches(prompt));
  }
  const prompts = all(".prompt"), left = prompts.filter((part) => !part.hidden).length;
  const methods = checks.filter((check) => check.checked).length;
  $("#no-prompt").hidden = left > 0 || prompts.length === 0;
  $("#filtered").textContent = `${left} of ${prompts.length} prompts and ${methods} of ${checks.length} methods are shown.`;
  $(".filter .dot").hidden = left === prompts.length && methods === checks.length;
  drawCharts();
}
search.addEventListener("input", filter);
checks.forEach((check) => check.addEventListener("change", filter));
$("#reset").addEventListener("click", () => {
  search.value = "";
  checks.forEach((check) => { check.checked = true; });
  filter();
});
const filterBox = $(".filter");
document.addEventListener("click", (event) => { if (!filterBox.contains(event.target)) filterBox.open = false; });
filterBox.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && filterBox.open) {
    filterBox.open = false;
    $("summary", filterBox).focus();
  }
});

// ---- curves

const AXES = { nfe: ["Calls of the denoiser", ""], seconds: ["Seconds", "s"] };
const measureBox = $("#measure"), log = $("#log"), bands = $("#bands");
const drawn = data.measures.filter(({ name }) => Object.values(data.curves).some((axis) => name in axis));
measureBox.append(...drawn.map(({ name, title }) => make("option", { value: name }, title)));
$("#charts").hidden = drawn.length === 0;
$("#no-curves").hidden = drawn.length > 0;
for (const input of [measureBox, log, bands]) input.addEventListener("change", drawCharts);

/** The visible methods' lines of the chosen measure: {n, title, points: [x, mean, low, high, runs]}. */
function linesOf(axis) {
  const found = data.curves[axis]?.[measureBox.value] ?? {};
  return data.methods
    .map(({ name, title }, n) => ({ n, name, title, points: (found[name] ?? []).filter(([x]) => !log.checked || x > 0) }))
    .filter(({ name, points }) => points.length && shown(name));
}
/** [mean, low, high, runs] at x, between two points linearly; null outside of the line. */
function at(points, x) {
  const right = points.findIndex((point) => point[0] >= x);
  if (right < 0 || x < points[0][0]) return null;
  const [b, a] = [points[right], points[Math.max(right - 1, 0)]];
  const t = b[0] === a[0] ? 1 : (x - a[0]) / (b[0] - a[0]);
  return [1, 2, 3].map((k) => a[k] + t * (b[k] - a[k])).concat(Math.min(a[4], b[4]));
}
function linearTicks(low, high, most) {
  const rough = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * unit).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(9)));
}
function logTicks(low, high) {
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    for (const k of [1, 2, 5]) if (k * 10 ** e >= low * 0.999 && k * 10 ** e <= high * 1.001) ticks.push(k * 10 ** e);
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, 4);
}

function drawCharts() {
  if (!drawn.length) return;
  const lines = [...new Set(Object.keys(AXES).flatMap(linesOf).map(({ n }) => n))].sort((a, b) => a - b);
  $(".legend").replaceChildren(...lines.map((n) => {
    const line = make("line", { class: "line", x1: 1, x2: 43, y1: 7, y2: 7, "stroke-dasharray": dashes(n) });
    return make("li", {}, make("svg", { "aria-hidden": "true", style: colour(n) }, line, marker(n, 22, 7)), data.methods[n].title);
  }));
  all(".chart").forEach(drawChart);
}

function drawChart(figure) {
  const axis = figure.dataset.axis, [axisTitle, axisUnit] = AXES[axis];
  const measure = drawn.find(({ name }) => name === measureBox.value);
  const lines = linesOf(axis);
  const opened = $("details", figure)?.open ?? false;
  const caption = make("figcaption", {}, `${measure.title} against ${axis === "nfe" ? "calls of the denoiser" : "seconds"}`);
  if (!lines.length) {
    figure.replaceChildren(caption, make("p", { class: "soft" }, "No points for the methods shown."));
    return;
  }
  const width = Math.max(figure.clientWidth - 24, 240), height = Math.round(Math.min(Math.max(width * 0.62, 230), 360));
  const box = { left: 56, right: width - 14, top: 26, bottom: height - 44 };
  const every = lines.flatMap(({ points }) => points);
  const span = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return low < high ? [low, high] : [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
  };
  let [x0, x1] = span(every.map(([x]) => x));
  if (!log.checked) x0 = Math.min(x0, 0);
  const known = bands.checked ? every.flatMap(([, mean, low, high]) => [mean, low, high]) : every.map(([, mean]) => mean);
  let [y0, y1] = span(known);
  const pad = (y1 - y0) * 0.04;
  [y0, y1] = [y0 - pad, y1 + pad];
  const along = log.checked ? (x) => Math.log(x / x0) / Math.log(x1 / x0) : (x) => (x - x0) / (x1 - x0);
  const X = (x) => box.left + along(x) * (box.right - box.left);
  const Y = (y) => box.bottom - ((Math.min(Math.max(y, y0), y1) - y0) / (y1 - y0)) * (box.bottom - box.top);

  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  for (const y of linearTicks(y0, y1, 5)) {
    svg.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: Y(y), y2: Y(y) }),
      make("text", { x: box.left - 6, y: Y(y) + 4, "text-anchor": "end" }, compact(y, measure.unit === "share" ? "share" : "")));
  }
  let free = -Infinity;
  for (const x of log.checked ? logTicks(x0, x1) : linearTicks(x0, x1, width / 65)) {
    svg.append(make("line", { class: "grid", x1: X(x), x2: X(x), y1: box.bottom, y2: box.bottom + 5 }));
    if (X(x) < free) continue;
    free = X(x) + 34;
    svg.append(make("text", { x: X(x), y: box.bottom + 18, "text-anchor": "middle" }, compact(x)));
  }
  const unit = measure.unit && measure.unit !== "share" ? ` (${measure.unit})` : "";
  const direction = measure.better ? `, ${measure.better} is better` : "";
  svg.append(make("text", { x: box.left, y: 14 }, `${measure.title}${unit}${direction}`),
    make("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, `${axisTitle}${log.checked ? " (logarithmic)" : ""}`));
  const path = (points, k) => points.map((p) => `${X(p[0]).toFixed(1)},${Y(p[k]).toFixed(1)}`).join("L");
  if (bands.checked) for (const { n, points } of lines) {
    svg.append(make("path", { class: "band", style: colour(n), d: `M${path(points, 3)}L${path([...points].reverse(), 2)}Z` }));
  }
  for (const { n, points } of lines) {
    const group = make("g", { style: colour(n), class: "of", "data-n": n });
    group.append(make("path", { class: "line", d: `M${path(points, 1)}`, "stroke-dasharray": dashes(n) }));
    const step = Math.max(1, Math.ceil(points.length / 6)), first = points.length > 6 ? n % step : 0;
    points.forEach((p, i) => { if (i % step === first || points.length === 1) group.append(marker(n, X(p[0]), Y(p[1]))); });
    svg.append(group);
  }
  const cursor = make("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
  svg.append(cursor);

  const stops = [...new Set(every.map(([x]) => x))].sort((a, b) => a - b);
  const reading = make("div", { class: "reading" });
  const plot = make("div", { class: "plot", tabindex: "0", role: "group", "aria-label":
    `Chart: ${caption.textContent}. Left and right arrow keys read the values.` }, svg);
  // at first, the last place that all lines reach
  const common = Math.min(...lines.map(({ points }) => points[points.length - 1][0]));
  let stop = Math.max(stops.findLastIndex((x) => x <= common), 0);
  function read(i) {
    stop = Math.min(Math.max(i, 0), stops.length - 1);
    const x = stops[stop], head = axis === "nfe" ? `After ${compact(x)} calls` : `After ${compact(x, axisUnit)}`;
    const found = lines.map((line) => ({ ...line, value: at(line.points, x) }));
    reading.replaceChildren(make("strong", {}, head), ...found.flatMap(({ n, title, value }) => {
      const [mean, low, high, runs] = value ?? [];
      const key = make("span", { class: "key" }, make("svg", { viewBox: "-7 -7 14 14", style: colour(n) }, marker(n)));
      const name = make("span", { class: "who" }, key, title);
      return [name, ...(value
        ? [make("b", {}, compact(mean, measure.unit)),
          make("span", { class: "far" }, runs > 1 ? `${compact(low, measure.unit === "share" ? "share" : "")} to ${compact(high, measure.unit)}` : ""),
          make("span", { class: "far" }, runs > 1 ? `${runs} runs` : "1 run")]
        : [make("span", { class: "far" }, "–"), make("span"), make("span")])];
    }));
    cursor.setAttribute("x1", X(x));
    cursor.setAttribute("x2", X(x));
    return `${head}: ${found.filter(({ value }) => value).map(({ title, value }) => `${title} ${compact(value[0], measure.unit)}`).join(", ")}`;
  }
  const show = (on) => cursor.setAttribute("visibility", on ? "visible" : "hidden");
  function say(i) {
    $("#said").textContent = read(i);
    show(true);
  }
  const point = (event) => {
    const x = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * width;
    read(stops.reduce((best, s, i) => (Math.abs(X(s) - x) < Math.abs(X(stops[best]) - x) ? i : best), 0));
    show(true);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => { if (document.activeElement !== plot) show(false); });
  plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) say(stop); });
  plot.addEventListener("blur", () => show(false));
  plot.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: stops.length - 1 }[event.key];
    if (to === undefined) return;
    say(to);
    event.preventDefault();
  });
  read(stop);

  const rows = Array.from({ length: 10 }, (_, i) => (log.checked ? x0 * (x1 / x0) ** (i / 9) : x0 + ((x1 - x0) * i) / 9));
  const cell = (value) => (value ? `${compact(value[0], measure.unit)} (${compact(value[1], measure.unit)} to ${compact(value[2], measure.unit)})` : "–");
  const table = make("table", {},
    make("caption", {}, `${caption.textContent}: mean and 95 % interval`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, axisTitle), ...lines.map(({ title }) => make("th", { scope: "col" }, title)))),
    make("tbody", {}, ...rows.map((x) => make("tr", {}, make("th", { scope: "row" }, compact(x)),
      ...lines.map(({ points }) => make("td", {}, cell(at(points, x))))))));
  const details = make("details", {}, make("summary", {}, "As a table"),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${caption.textContent}, as a table` }, table));
  details.open = opened;
  figure.replaceChildren(caption, plot, reading, details);
}

let drawnWidth = 0;
new ResizeObserver(([entry]) => {
  if (Math.abs(entry.contentRect.width - drawnWidth) < 1) return;
  drawnWidth = entry.contentRect.width;
  drawCharts();
}).observe($("#charts"));
filter();
