"use strict";
// The curves of a run, its downloads, and the button that copies its command.
{
const $ = (selector) => document.querySelector(selector);
const { curves } = JSON.parse($("#data").textContent);
const plots = [];

const short = (value) => value == null ? "" : String(Number(value.toPrecision(4)));

/** One chart; the canvas has a name, and the table of the page has its numbers. */
function draw(curve, place) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const said = Object.assign(document.createElement("span"), { className: "soft", textContent: curve.meaning });
  caption.append(curve.title, said);
  const holder = document.createElement("div");
  holder.setAttribute("role", "img");
  const least = Math.min(...curve.y), most = Math.max(...curve.y);
  holder.setAttribute("aria-label", `${curve.title} over ${curve.x.length} steps, from ${short(curve.y[0])} to ${short(curve.y.at(-1))}, least ${short(least)}, most ${short(most)}`);
  figure.append(caption, holder);
  place.append(figure);
  const style = getComputedStyle(document.body);
  const probe = document.createElement("i");
  place.append(probe);
  const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  const [soft, line, accent] = ["soft", "line", "accent"].map(colour);
  probe.remove();
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: `12px ${style.fontFamily}` };
  const plot = new uPlot({
    width: holder.clientWidth, height: 220, legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { distr: curve.log ? 3 : 1 } },
    axes: [axis, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
    series: [{}, { stroke: accent, width: 2, points: { show: false } }],
    hooks: { setCursor: [(u) => {
      const at = u.cursor.idx;
      said.textContent = at == null ? curve.meaning : `step ${curve.x[at]}: ${short(curve.y[at])}`;
    }] },
  }, [curve.x, curve.y], holder);
  plots.push([plot, holder]);
}

function drawAll() {
  const place = $("#curves");
  if (!place) return;
  plots.splice(0).forEach(([plot]) => plot.destroy());
  place.replaceChildren();
  for (const curve of curves) draw(curve, place);
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
new ResizeObserver(() => {
  for (const [plot, holder] of plots) plot.setSize({ width: holder.clientWidth, height: 220 });
}).observe(document.body);

// a file stands in the page once, in its link; browsers refuse to save an address of some megabytes
for (const link of document.querySelectorAll("a[download]")) {
  fetch(link.getAttribute("href")).then((answer) => answer.blob()).then((file) => {
    link.href = URL.createObjectURL(file);
    if (link.id === "video") show(link.href);
  });
}
if ($("#video:not([download])")) show($("#video").href);

function show(address) {
  const video = $("video");
  if (!video) return;
  video.poster = $("#picture")?.src ?? "";
  video.src = address;
}

$(".copy")?.addEventListener("click", async (event) => {
  const code = $(".command code"), button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {  // no right to the clipboard: the text is marked, to be copied by hand
    getSelection().selectAllChildren(code);
    button.textContent = "Marked";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
}
