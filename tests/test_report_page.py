"""The page of a comparison: what it says, that nothing breaks out of it, and that it works in a browser."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_example
from browsing import Unavailable, violations
from jsonschema import Draft202012Validator
from PIL import Image
from pullback.errors import UserError
from pullback.evaluate.compare.report import check, extracts, page
from pullback.evaluate.compare.report import data as page_data
from pullback.evaluate.compare.report import table as page_table
from pullback.evaluate.compare.report.curves import MOST_POINTS, mean_line
from scipy import stats

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "link", "input", "br", "hr", "img"}
NASTY = [
    "</script><script>window.broken = 1</script>",
    "\"><img src=x onerror='window.broken = 1'>",
    "=1+1",
    "a \"quoted\" 'cube'\nwith a line, and a comma & an entity &lt; <!-- -->",
    "{{ 7 * 7 }} {% raw %} \\u003c \u2028 ]]>",
]


class Reader(HTMLParser):
    """Elements as (name, attributes, text, names of the elements it is in); fails on a tag that is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str], tuple[str, ...]]] = []
        self.open: list[int] = []
        self.feed(text)
        assert not self.open, [self.elements[i][0] for i in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs), [], tuple(self.elements[i][0] for i in self.open)))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag, tag

    def handle_data(self, data: str) -> None:
        for i in self.open:
            self.elements[i][2].append(data)

    def all(self, tag: str, name: str = "") -> list[tuple[dict[str, str | None], str]]:
        """The elements of a tag with a class name."""
        return [
            (attributes, "".join(text))
            for found, attributes, text, _ in self.elements
            if found == tag and (not name or name in (attributes.get("class") or "").split())
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    report_example.write(folder)
    page.build(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> Reader:
    return Reader((folder / "report.html").read_text())


def data_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "compare.json").read_text())


# ---- what the page says


def test_headings_in_order_and_links_that_lead_somewhere(html: Reader) -> None:
    levels = [int(tag[1]) for tag, *_ in html.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = [attributes["id"] for _, attributes, *_ in html.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for attributes, _ in html.all("a"):
        target = attributes["href"] or ""
        assert target.removeprefix("#") in ids or target in ("compare.json", "runs.csv", "summary.csv"), target
    for attributes, _ in html.all("label"):
        assert attributes.get("for", "search") in ids
    for _, attributes, *_ in html.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert {"header", "nav", "main", "footer"} <= {tag for tag, *_ in html.elements}


def test_every_run_has_its_place_and_every_bad_run_its_reason(folder: Path, html: Reader) -> None:
    data, tiles = data_of(folder), html.all("button", "tile")
    assert len(tiles) == len(data["runs"]) == 60
    assert len(html.all("section", "prompt")) == 3 and len(html.all("div", "row")) == 15
    for attributes, text in tiles:
        run = data["runs"][int(attributes["data-run"] or "")]
        assert f", {run['prompt']}, " in text and f"seed {run['seed']}" in text
        assert run["status"] == "done" or (run["status"] in text and run["reason"] in text)
    bad = [run for run in data["runs"] if run["status"] != "done"]
    assert {run["status"] for run in bad} == {"diverged", "failed"}
    listed = next(text for attributes, text in html.all("table", "unfinished"))
    assert all(run["reason"] in listed and run["command"] in listed for run in bad)


def test_the_first_sentence_is_plain() -> None:
    def lead(methods: int, prompts: int, seeds: int, budget: str) -> str:
        parts = {"methods": [0] * methods, "prompts": [0] * prompts, "seeds": [0] * seeds}
        return page.lead(parts | {"terms": {"budget": budget}})

    every = "and every run had"
    assert lead(5, 3, 4, "nfe=960") == (
        f"5 methods sampled the same 3 prompts, each prompt 4 times, {every} 960 calls of the denoiser to do it."
    )
    assert lead(2, 1, 1, "seconds=120") == f"2 methods sampled the same prompt once, {every} 120 seconds to do it."
    assert lead(1, 1, 2, "as set") == f"1 method sampled a prompt twice, {every} as set to do it."


def test_the_table_marks_the_best_by_the_direction(folder: Path, html: Reader) -> None:
    data = data_of(folder)
    columns = {column["name"]: column for column in page_table.table(data)}
    assert [c["group"] for c in columns.values()] == sorted(
        (c["group"] for c in columns.values()), key=list(page_table.TITLES).index
    )
    for measure in data["measures"]:
        rows = {row["method"]: row["mean"] for row in data["summary"] if row["measure"] == measure["name"]}
        best = {name for name, cell in columns[measure["name"]]["cells"].items() if cell["mark"] == "best"}
        pick = {"higher": max, "lower": min}.get(measure["better"])
        wanted = {name for name, mean in rows.items() if pick and mean == pick(rows.values())}
        assert best == (wanted if len(wanted) < len(rows) else set()), measure["name"]  # all alike: none is best
    marked = [text for attributes, text in html.all("td", "best")]
    assert marked and all("★" in text and "best" in text for text in marked)


def test_near_the_best_is_where_intervals_overlap() -> None:
    values = {"a": (5.0, 4.0, 6.0, 9), "b": (3.5, 3.0, 4.0, 9), "c": (2.0, 1.0, 3.9, 9), "one": (4.9, 4.9, 4.9, 1)}
    rows = {name: dict(zip(("mean", "low", "high", "count"), v, strict=True)) for name, v in values.items()}
    measure = {"name": "m", "better": "higher", "group": "quality", "unit": "", "title": "", "source": ""}
    data = {"measures": [measure], "methods": [{"name": name, "title": name} for name in rows], "runs": []}
    data["summary"] = [row | {"method": name, "measure": "m"} for name, row in rows.items()]
    columns = page_table.table(data)
    marks = {name: cell["mark"] for name, cell in columns[0]["cells"].items()}
    assert marks == {"a": "best", "b": "near", "c": "", "one": ""}
    assert [card["apart"] for card in page.glance(data, columns)] == [None]  # the next is "one"


@pytest.mark.parametrize(("hits", "count"), [(0, 12), (1, 12), (6, 12), (12, 12), (0, 1)])
def test_wilson_solves_its_equation(hits: int, count: int) -> None:
    """The ends are where |share − p| is 1.96 standard errors √(p(1−p)/n) of p itself (Wilson 1927)."""
    share = hits / count
    for end in page_table.wilson(hits, count):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), rel=1e-9)


def test_numbers_are_short() -> None:
    told = {(0.9375, "share"): "94 %", (0.0833, "share"): "8.3 %", (0.0, "share"): "0 %", (21.96, "dB"): "22.0 dB",
            (960.0, ""): "960", (12345.6, "MB"): "12 346 MB", (0.01234, ""): "0.0123", (-3.456, ""): "-3.46",
            (999.7, ""): "1 000", (0.0996, "share"): "10 %"}  # fmt: skip
    for (value, unit), text in told.items():
        assert page_table.compact(value, unit).replace(page_table.THIN, " ") == text


def test_the_mean_line_is_the_mean_where_half_of_the_lines_are() -> None:
    x = np.arange(5.0)
    lines = [np.stack([x, 2 * x + shift], 1) for shift in (-1.0, 0.0, 4.0)]
    short = np.stack([np.array([0.5, 1.5]), np.array([2.0, 4.0])], 1)
    points = np.array(mean_line([*lines, short]))
    np.testing.assert_allclose(points[:, 0], [0, 0.5, 1, 1.5, 2, 3, 4])
    np.testing.assert_allclose(points[:, 4], [3, 4, 4, 4, 3, 3, 3])
    np.testing.assert_allclose(points[points[:, 4] == 3, 1], 2 * points[points[:, 4] == 3, 0] + 1)
    np.testing.assert_allclose(points[2, 1], np.mean([1, 2, 6, 3]))
    wanted = stats.ttest_1samp([1, 2, 6, 3], 0).confidence_interval(0.95)
    np.testing.assert_allclose(points[2, 2:4], [wanted.low, wanted.high], rtol=1e-5)
    alone = np.array(mean_line([lines[0]]))
    assert (alone[:, 1:4] == alone[:, 1:2]).all()
    assert len(mean_line([np.stack([np.arange(500.0)] * 2, 1)])) == MOST_POINTS
    assert np.array(mean_line(lines, 0.0, 5.0))[:2, 2:4].tolist() == [[0.0, 5.0]] * 2  # else -5.6 and 7.6 at 0


# ---- nothing comes from outside, nothing breaks out


def test_nothing_is_loaded_from_anywhere(html: Reader) -> None:
    for tag, attributes, text, _ in html.elements:
        assert "src" not in attributes and "srcset" not in attributes and "action" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "style":
            assert not re.search(r"url\(|@import|https?:", "".join(text))
    scripts = html.all("script")
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json"] * 2 + [None]
    assert all(address == "http://www.w3.org/2000/svg" for address in re.findall(r"https?:[^\"'\s]+", scripts[2][1]))
    pictures = [picture for picture in json.loads(scripts[1][1]) if picture]
    assert pictures and all(picture.startswith("data:image/webp;base64,") for picture in pictures)
    policy = next(a["content"] for a, _ in html.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none';") and "script-src 'sha256-" in policy


def nasty(folder: Path) -> dict[str, Any]:
    data = report_example.write(folder, methods=2, prompts=["a red cube"], seeds=2)
    data["prompts"] = NASTY
    for i, run in enumerate(data["runs"]):
        run |= {"prompt": NASTY[i], "reason": NASTY[-i], "status": "failed", "command": NASTY[-1 - i]}
    data["terms"] |= {"budget": NASTY[0], "notes": NASTY, "command": NASTY[1]}
    data["methods"][0] |= {"title": NASTY[0], "reference": NASTY[1], "settings": {NASTY[0]: NASTY[1]}}
    data["measures"][0] |= {"title": NASTY[1], "source": NASTY[0]}
    report_example.save(folder, data)
    return data


def test_texts_of_users_stay_texts(tmp_path: Path) -> None:
    data = nasty(tmp_path)
    html = Reader(page.build(tmp_path).read_text())
    scripts = html.all("script")
    assert len(scripts) == 3 and not html.all("img")
    assert json.loads(scripts[0][1])["runs"][0]["prompt"] == NASTY[0]
    assert [a["data-prompt"] for a, _ in html.all("section", "prompt")] == NASTY
    assert [text for _, text in html.all("li")][-2 * len(NASTY) : -len(NASTY)] == NASTY  # notes, then the jump list
    assert data["terms"]["command"] in [text for _, text in html.all("code")]


def test_csv_gives_the_data_back(tmp_path: Path) -> None:
    data = nasty(tmp_path)
    page.build(tmp_path)

    def back(text: str) -> str:
        return text[1:] if text.startswith("'") and page_data.FORMULA.match(text) else text

    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any(re.match(r"[=+\-@\t\r\n]", value) for row in rows for value in (row["prompt"], row["reason"]))
    for row, run in zip(rows, data["runs"], strict=True):
        assert (row["method"], back(row["prompt"]), int(row["seed"])) == (run["method"], run["prompt"], run["seed"])
        assert (row["status"], back(row["reason"])) == (run["status"], run["reason"])
        found = {name: float(row[name]) for name in [m["name"] for m in data["measures"]] if row[name]}
        assert found == run["measures"]
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, wanted in zip(rows, data["summary"], strict=True):
        assert {key: row[key] for key in ("method", "measure")} == {key: wanted[key] for key in ("method", "measure")}
        assert [float(row[key]) for key in ("mean", "low", "high", "count")] == [
            wanted[key] for key in ("mean", "low", "high", "count")
        ]


def test_the_table_as_markdown_and_the_sheet_of_first_pictures(folder: Path) -> None:
    data = data_of(folder)
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0][1:] == [method["title"] for method in data["methods"]]
    assert len(rows) == 2 + len(data["measures"]) + 1 and all(len(row) == len(rows[0]) for row in rows)
    right = next(row for row in rows if row[0].startswith("Right object"))
    means = {s["method"]: s["mean"] for s in data["summary"] if s["measure"] == "right"}
    best = max(means, key=lambda name: means[name])
    assert [cell.startswith("**") for cell in right[1:]] == [m["name"] == best for m in data["methods"]]

    sheet = Image.open(folder / "sheet.png").convert("RGB")
    wide = sheet.width // len(data["methods"])
    for run in data["runs"]:
        column = [m["name"] for m in data["methods"]].index(run["method"])
        left = column * wide + data["seeds"].index(run["seed"]) * extracts.CELL
        row = data["prompts"].index(run["prompt"])
        top = extracts.TITLE * 2 + row * (extracts.CELL + extracts.TITLE)
        assert (sheet.getpixel((left, top)) == (0xDD, 0, 0)) == (run["status"] != "done")


@pytest.mark.parametrize("text", ["=1+1", "'=1+1", "''-2", "-1", "@x", "\n=2", "plain", "'quoted'", ""])
def test_a_formula_in_csv_can_be_undone(text: str) -> None:
    told = page_data.spreadsheet_text(text)
    assert not re.match(r"[=+\-@\t\r\n]", told)
    assert (told[1:] if page_data.FORMULA.match(told) else told) == text


# ---- data that is not what it should be


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in way:
            data = data[key]
        data[last] = value

    return change


BAD = {
    "format": (put("format", 2), "format is 2, which must be 1"),
    "budget": (put("terms/budget", None), "terms.budget is null, which must be a text"),
    "group": (put("measures/0/group", "speed"), 'measures[0].group is "speed"'),
    "better": (put("measures/0/better", "more"), 'measures[0].better is "more"'),
    "no methods": (put("methods", []), "methods is [], which must be a list of one or more"),
    "twin": (lambda data: data["methods"].append(data["methods"][0]), 'methods has "pullback" twice'),
    "status": (put("runs/1/status", "ok"), 'runs[1].status is "ok", which must be one of "done", "diverged", "failed"'),
    "method": (put("runs/1/method", "dds"), 'runs[1].method is "dds"'),
    "seed": (put("runs/0/seed", 7), "runs[0].seed is 7"),
    "run twice": (lambda data: data["runs"].append(data["runs"][0]), 'runs has ["pullback", "a red cube", 0] twice'),
    "measure": (put("runs/0/measures/fid", 1.0), 'runs[0].measures is "fid"'),
    "infinite": (put("summary/0/mean", 1e999), "is not JSON (Infinity is no measured value"),
    "huge": (put("summary/0/mean", 10**400), "summary[0].mean is 1000"),
    "text": (put("runs/0/measures/psnr", "12"), 'runs[0].measures.psnr is "12", which must be a finite number'),
    "curve": (put("runs/0/curve/0/nfe", None), "runs[0].curve[0].nfe is null"),
    "surrogate": (put("prompts/0", "\ud800"), "prompts[0] is"),
    "outside": (put("runs/0/turntable", "../strip.webp"), "must be a file in the comparison's folder"),
    "not there": (put("runs/0/turntable", "turntables/none.webp"), "must be a file in the comparison's folder"),
    "no picture": (put("runs/0/turntable", "compare.json"), "names compare.json, which is no picture"),
    "frames": (put("runs/0/frames", 12), "which must be a strip of 12 frames, 768 x 64 pixels"),
    "a list": (lambda data: data.update(runs=[[]]), "runs[0] is [], which must be an object"),
    "missing": (lambda data: data.pop("summary"), "summary is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_told_in_a_sentence(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "report"
    data = report_example.write(folder, methods=1, prompts=["a red cube"], seeds=2)
    shutil.copy(folder / data["runs"][0]["turntable"], tmp_path / "strip.webp")
    change, sentence = BAD[case]
    change(data)
    report_example.save(folder, data)
    with pytest.raises(UserError) as error:
        page.build(folder)
    assert sentence in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not (folder / "report.html").exists()


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json.loads(check.SCHEMA.read_text(encoding="utf-8")))


def test_no_data_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no compare\.json"):
        page.build(tmp_path)
    (tmp_path / "compare.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        page.build(tmp_path)
    (tmp_path / "compare.json").write_text("[]")
    with pytest.raises(UserError, match=r"the file is \[\], which must be an object"):
        page.build(tmp_path)


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])  # CI runs as root
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """visit(file, **context) -> a tab with that page; the test fails on an error in its console."""
    contexts, errors = [], []

    def visit(file: Path, **options: Any) -> Any:
        width, height = options.pop("size", (1280, 900))
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else errors.append(r.url))
        tab.goto(file.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert not errors


def frames(tab: Any) -> list[int]:
    """Of the strips that are on the screen."""
    return tab.evaluate("""() => [...document.querySelectorAll(".strip")].filter((strip) => {
        const box = strip.getBoundingClientRect();
        return box.bottom > 0 && box.top < innerHeight;
    }).map((strip) => Math.round(parseFloat(strip.style.backgroundPositionX) / 100 * 23))""")


def overflow(tab: Any) -> int:
    return tab.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_turntables_play_in_step(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html")
    tab.evaluate("location.hash = 'turntables'")
    assert tab.inner_text("#play") == "Pause"
    before = tab.input_value("#angle")
    tab.wait_for_function("angle => document.querySelector('#angle').value !== angle", arg=before)
    for _ in range(5):
        assert len(set(frames(tab))) == 1 and len(frames(tab)) >= 8
    tab.click("#play")
    assert tab.inner_text("#play") == "Play"
    still = frames(tab)
    tab.wait_for_timeout(400)
    assert frames(tab) == still
    # the slider, and the keys
    tab.locator("#angle").fill("180")
    assert set(frames(tab)) == {12} and tab.inner_text("#degrees") == "180°"
    tile = tab.locator("button.tile").first
    tile.focus()
    tab.keyboard.press("ArrowRight")
    assert set(frames(tab)) == {13}
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert set(frames(tab)) == {11}
    tab.keyboard.press("Space")
    assert tab.inner_text("#play") == "Pause" and not tab.locator("#run").is_visible()
    tab.keyboard.press("Space")
    assert tab.inner_text("#play") == "Play"
    # with nothing focused, the space bar plays and does not scroll
    tile.evaluate("tile => tile.blur()")
    before = tab.evaluate("scrollY")
    tab.keyboard.press("Space")
    tab.wait_for_timeout(300)
    assert tab.inner_text("#play") == "Pause" and tab.evaluate("scrollY") == before
    # only what can be seen is loaded
    loaded = tab.evaluate("[...document.querySelectorAll('.strip')].map((s) => s.style.backgroundImage !== '')")
    assert loaded[0] and not loaded[-1]


def test_reduced_motion_starts_paused(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", reduced_motion="reduce")
    tab.wait_for_timeout(300)
    assert tab.inner_text("#play") == "Play" and tab.input_value("#angle") == "0"


def test_a_turntable_enlarged_has_its_figures_and_command(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", permissions=["clipboard-read", "clipboard-write"])
    run = next(run for run in data_of(folder)["runs"] if run["status"] == "diverged")
    tile = tab.locator("button.tile.diverged").first
    tile.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("#run")
    assert dialog.is_visible() and run["reason"] in dialog.inner_text() and run["command"] in dialog.inner_text()
    assert page_table.compact(run["measures"]["psnr"], "dB") in dialog.inner_text()
    assert "url(" in dialog.locator(".strip").evaluate("strip => strip.style.backgroundImage")
    dialog.locator(".copy").click()
    assert tab.evaluate("navigator.clipboard.readText()") == run["command"]
    tab.keyboard.press("Escape")
    assert not dialog.is_visible() and tile.evaluate("tile => tile === document.activeElement")


def test_a_heading_sorts_by_its_column(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", reduced_motion="reduce")
    means = {row["method"]: row["mean"] for row in data_of(folder)["summary"] if row["measure"] == "kid"}

    def order() -> list[str]:
        return tab.eval_on_selector_all(".results tbody tr", "rows => rows.map((row) => row.dataset.method)")

    wanted = sorted(means, key=lambda name: means[name])
    assert order() != wanted
    heading = tab.locator(".results th", has_text="KID")
    heading.locator("button").focus()
    tab.keyboard.press("Enter")
    assert order() == wanted and heading.get_attribute("aria-sort") == "ascending"
    tab.keyboard.press("Space")
    assert order() == wanted[::-1] and heading.get_attribute("aria-sort") == "descending"
    assert tab.locator(".results th[aria-sort=ascending], .results th[aria-sort=descending]").count() == 1


def test_filters_hide_prompts_and_methods(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", reduced_motion="reduce")
    tab.click(".filter summary")
    tab.fill("#search", "SPHERE")
    tab.uncheck(".method-on[value=sds]")
    shown = tab.eval_on_selector_all(".prompt:not([hidden])", "parts => parts.map((part) => part.dataset.prompt)")
    assert shown == ["a sphere"]
    assert tab.locator(".row[data-method=sds]").filter(visible=True).count() == 0
    assert tab.locator(".results tbody tr").filter(visible=True).count() == 4
    assert tab.locator(".legend li").count() == 4 and tab.locator(".chart[data-axis=nfe] .of").count() == 4
    assert "1 of 3 prompts and 4 of 5 methods" in tab.inner_text("#filtered")
    tab.fill("#search", "no such prompt")
    assert tab.locator("#no-prompt").is_visible()
    tab.click("#reset")
    assert tab.locator(".prompt:not([hidden])").count() == 3 and tab.locator(".legend li").count() == 5
    tab.keyboard.press("Escape")
    assert not tab.locator("#search").is_visible()


def test_curves_can_be_read(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", reduced_motion="reduce")
    tab.select_option("#measure", "psnr")
    for axis in ("nfe", "seconds"):
        chart = tab.locator(f".chart[data-axis={axis}]")
        drawn = chart.locator(".of .line").evaluate_all(
            "lines => lines.map((line) => line.getAttribute('stroke-dasharray'))"
        )
        assert len(drawn) == len(set(drawn)) == 5
        assert chart.locator("details table tbody tr").count() == 10
    plot = tab.locator(".chart[data-axis=nfe] .plot")
    plot.focus()
    tab.keyboard.press("Home")
    points = json.loads(tab.inner_text("#figures") or tab.text_content("#figures"))["curves"]["nfe"]["psnr"]
    assert "After 60 calls" in tab.text_content("#said")
    for points_of in points.values():
        assert page_table.compact(points_of[0][1], "dB") in tab.text_content("#said")
    before = plot.locator(".of .line").first.get_attribute("d")
    tab.check("#log")
    assert plot.locator(".of .line").first.get_attribute("d") != before
    assert "logarithmic" in plot.locator("svg").first.text_content()


def test_dark_by_the_system_and_by_the_button(folder: Path, visit: Callable[..., Any]) -> None:
    def ground(tab: Any) -> int:
        color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", color)[:3])

    light, dark = visit(folder / "report.html"), visit(folder / "report.html", color_scheme="dark")
    assert ground(light) > 600 and ground(dark) < 150
    assert dark.get_attribute("#theme", "aria-pressed") == "true"
    light.click("#theme")
    assert ground(light) < 150
    light.reload()
    assert ground(light) < 150 and light.get_attribute("#theme", "aria-pressed") == "true"


def test_texts_keep_their_contrast(folder: Path, visit: Callable[..., Any]) -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11: texts 4.5:1, what tells methods apart 3:1, on every ground they lie on."""
    for scheme in ("light", "dark"):
        tab = visit(folder / "report.html", color_scheme=scheme, reduced_motion="reduce")
        colors = tab.evaluate("""() => {
            const probe = document.body.appendChild(document.createElement("i"));
            const roots = [...document.styleSheets[0].cssRules].filter((rule) => rule.selectorText === ":root");
            const names = roots.flatMap((rule) => [...rule.style]).filter((name) => name.startsWith("--"));
            return Object.fromEntries(names.map((name) => {
                probe.style.color = "";
                probe.style.color = `var(${name})`;
                return [name, getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)];
            }));
        }""")

        def luminance(name: str, colors: dict[str, list[float]] = colors) -> float:
            parts = [c / 255 for c in colors[name][:3]]
            r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
            return 0.2126 * r + 0.7152 * g + 0.0722 * b

        def contrast(a: str, b: str, luminance: Callable[[str], float] = luminance) -> float:
            low, high = sorted((luminance(a), luminance(b)))
            return (high + 0.05) / (low + 0.05)

        pairs = [(ink, ground) for ink in ("--ink", "--soft", "--accent", "--bad") for ground in ("--page", "--panel")]
        for ink, ground in [*pairs, ("--soft", "--best"), ("--best-ink", "--best"), ("--bad", "--bad-ground")]:
            assert contrast(ink, ground) >= 4.5, (scheme, ink, ground)
        for n in range(8):
            assert contrast(f"--key-{n}", "--panel") >= 3, (scheme, n)


def test_a_phone_shows_it_without_sideways_scrolling(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", size=(360, 740), has_touch=True, is_mobile=True)
    assert overflow(tab) == 0
    assert tab.locator("header.top").bounding_box()["height"] <= 60
    for button in tab.locator("#play, #theme, .filter summary").all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["height"] >= 24
    tops = {tile.bounding_box()["y"] for tile in tab.locator(".row").first.locator(".tile").all()}
    assert len(tops) == 1  # all four seeds in one row
    tab.locator("button.tile").first.click()
    assert overflow(tab) == 0 and tab.locator("#run").bounding_box()["width"] <= 360


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_is_out_of_reach(width: int, scheme: str, folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", size=(width, 844), color_scheme=scheme, reduced_motion="reduce")
    try:
        assert violations(tab) == []
    except Unavailable as e:
        pytest.skip(str(e))


def test_the_keyboard_reaches_everything_first_the_way_past_the_header(folder: Path, visit: Callable[..., Any]) -> None:
    tab = visit(folder / "report.html", reduced_motion="reduce")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    unnamed = tab.evaluate("""() => [...document.querySelectorAll("button, input, select, summary, [tabindex='0']")]
        .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.getAttribute("aria-labelledby")))
        .map((e) => e.outerHTML)""")
    assert unnamed == []


def test_nasty_texts_do_nothing_in_a_browser(tmp_path: Path, visit: Callable[..., Any]) -> None:
    nasty(tmp_path)
    tab = visit(page.build(tmp_path), size=(360, 740))
    assert tab.evaluate("window.broken") is None and overflow(tab) == 0
    tab.locator("button.tile").first.click()
    assert NASTY[0] in tab.inner_text("#run-title") and tab.evaluate("window.broken") is None


FIXED = ("group", "better", "status", "turntable")  # of these the page takes few values, or opens a file


def marked(tree: Any, key: str = "") -> Any:
    """The data with an element in every text, and in the names that are keys; equal texts stay equal."""
    if isinstance(tree, dict):
        named = key in ("settings", "measures")
        return {marked(name) if named else name: marked(value, name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [marked(value) for value in tree]
    return f"{tree}<b class='unescaped'>&amp;</b>" if isinstance(tree, str) and key not in FIXED else tree


def test_a_marker_in_every_field_is_text_in_a_browser(tmp_path: Path, visit: Callable[..., Any]) -> None:
    data = marked(report_example.write(tmp_path, methods=2, prompts=["a red cube"], seeds=2))
    data["runs"][0] |= {"status": "failed", "reason": marked("the reason")}
    report_example.save(tmp_path, data)
    tab = visit(page.build(tmp_path))
    tab.locator("button.tile").first.click()
    assert tab.evaluate("document.querySelectorAll('.unescaped').length") == 0
    seen = tab.evaluate("""() => [...document.querySelectorAll("body *:not(script)")].flatMap((e) => [
        ...[...e.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE).map((n) => n.data),
        ...[...e.attributes].map((a) => a.value)]).join("\\n")""")
    terms = {name: text for name, text in data["terms"].items() if name != "notes"}
    texts = [
        *terms.values(),
        *data["terms"]["notes"],
        *data["prompts"],
        data["runs"][0]["reason"],
        data["runs"][0]["command"],
    ]
    texts += [method[key] for method in data["methods"] for key in ("name", "title", "reference")]
    texts += [name for method in data["methods"] for name in method["settings"]]
    texts += [measure[key] for measure in data["measures"] for key in ("title", "source")]
    assert not [text for text in texts if text not in seen]


def one_run(data: dict[str, Any]) -> None:
    data["runs"] = data["runs"][:1]


def all_failed(data: dict[str, Any]) -> None:
    data["summary"] = [row for row in data["summary"] if row["method"] != "sds"]
    for run in data["runs"]:
        if run["method"] == "sds":
            run |= {"status": "failed", "reason": None, "measures": {}, "curve": [], "turntable": None}


def nothing_but_ends(data: dict[str, Any]) -> None:
    for run in data["runs"]:
        run |= {"curve": [], "turntable": None}


def one_point(data: dict[str, Any]) -> None:
    for run in data["runs"]:
        run["curve"] = [{"nfe": 0, "seconds": 0.0, "measures": {"psnr": 0.0}}]


def not_begun(data: dict[str, Any]) -> None:
    data.update(runs=[], summary=[])


def nothing_at_all(data: dict[str, Any]) -> None:
    data.update(runs=[], summary=[], measures=[], prompts=[], seeds=[])
    data["methods"] = data["methods"][:1]


@pytest.mark.parametrize("change", [one_run, all_failed, nothing_but_ends, one_point, not_begun, nothing_at_all])
def test_partial_data_makes_a_page(tmp_path: Path, visit: Callable[..., Any], change: Callable[..., None]) -> None:
    data = report_example.write(tmp_path, methods=2, prompts=["a red cube"], seeds=2)
    change(data)
    report_example.save(tmp_path, data)
    file = page.build(tmp_path)
    Reader(file.read_text())
    tab = visit(file)
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert tab.locator("button.tile").count() == len(data["runs"]) and overflow(tab) == 0
    curves = any(run["curve"] for run in data["runs"])
    assert tab.locator("#no-curves").is_visible() != curves
    if change is one_point:
        tab.check("#log")  # no x is above 0
        assert tab.locator(".plot").count() == 0
    if change is all_failed:
        assert "no reason was recorded" in tab.inner_text(".row[data-method=sds]")
        assert tab.locator(".results tr[data-method=sds] .none").count() == len(data["measures"])


def test_hundreds_of_turntables_load_and_move_only_in_sight(tmp_path: Path, visit: Callable[..., Any]) -> None:
    data = report_example.write(tmp_path, methods=1, prompts=["a red cube"], seeds=1)
    prompts, (run,) = [f"a red cube, {i}" for i in range(125)], data["runs"]
    data |= {"prompts": prompts, "seeds": list(range(4))}
    data["runs"] = [run | {"prompt": prompt, "seed": seed} for prompt in prompts for seed in range(4)]
    report_example.save(tmp_path, data)
    tab = visit(page.build(tmp_path))
    assert tab.locator("button.tile").count() == 500
    for n in (0, 60):
        tab.evaluate(f"location.hash = 'prompt-{n}'")
        tab.wait_for_function(f"() => strips.has(document.querySelector('#prompt-{n} .strip'))")
    assert not tab.evaluate("strips.has(document.querySelector('#prompt-0 .strip'))")
    assert tab.evaluate("strips.size") <= 50
    assert tab.evaluate("[...document.querySelectorAll('.strip')].filter((s) => s.style.backgroundImage).length") <= 100


# ---- few runs


def few(folder: Path, **shape: Any) -> tuple[dict[str, Any], list[dict[str, Any]], Reader]:
    data = report_example.write(folder, **shape)
    return data, page_table.table(data), Reader(page.build(folder).read_text(encoding="utf-8"))


def test_below_five_values_there_is_no_interval_no_best_and_nothing_apart(tmp_path: Path) -> None:
    data, columns, html = few(tmp_path, methods=3, prompts=report_example.PROMPTS[:1], seeds=4)
    cells = [cell for column in columns for cell in column["cells"].values()]
    assert cells and all(cell["count"] <= 4 and not cell["sure"] and cell["mark"] == "" for cell in cells)
    assert {card["apart"] for card in page.glance(data, columns)} == {None}
    lead = next(text for attributes, text in html.all("section", "lead"))
    assert "too few runs to say which is better" in lead and "apart" not in lead
    assert not html.all("td", "best") and any("4 values, too few for an interval" in t for _, t in html.all("td"))


def test_results_come_before_the_settings(html: Reader) -> None:
    order = [attributes.get("id") for attributes, _ in html.all("section") if attributes.get("class") != "prompt"]
    assert order == [None, "results", "turntables", "curves", "unfinished", "terms"]


def test_calls_are_told_as_used(folder: Path) -> None:
    data = data_of(folder)
    rows = [row for row in data["summary"] if row["measure"] == "nfe"]
    for row, calls in zip(rows, (944, 960.0, 12000, 1, 958.4), strict=True):
        row["mean"] = calls
    told = page.used(data).replace(page_table.THIN, "")
    assert told.startswith(
        "Used in the mean: Pulled-back sampling 944 calls, SDS 960 calls, SJC 12000 calls, VSD 1 calls"
    )
    assert "SDI 958 calls; Pulled-back sampling " in told and told.endswith(" s.")
    assert page.used(data | {"summary": []}) == ""


def test_a_method_without_a_value_says_what_it_lacks(tmp_path: Path) -> None:
    data = report_example.write(tmp_path, methods=2, prompts=report_example.PROMPTS[:2], seeds=2)
    data["summary"] = [
        r for r in data["summary"] if (r["method"], r["measure"]) not in {("sds", "kid"), ("sds", "psnr")}
    ]
    report_example.save(tmp_path, data)
    empty = [text for _, text in Reader(page.build(tmp_path).read_text(encoding="utf-8")).all("td", "none")]
    assert [" ".join(text.split()) for text in empty] == ["–no run has it", "–needs three seeds of a prompt"]
