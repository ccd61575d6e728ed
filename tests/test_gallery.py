"""The page of many runs: what is on it in which order, and that it works in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Unavailable, violations
from pullback import cli
from pullback.sweep.folder import Folder
from pullback.sweep.plan import Plan, Variant
from test_report_page import NASTY, Reader
from test_run_page import browser, make, visit  # noqa: F401  (fixtures)

SEEDS = {0: "0.30", 1: "0.10", 2: "", 3: "0.20"}


def fill(folder: Path, prompts: list[str]) -> Path:
    """A run of every prompt and seed of SEEDS, at two depths."""
    for i, prompt in enumerate(prompts):
        for seed, consistency in SEEDS.items():
            own = make(folder / ("deep" * (i % 2)) / f"{i}-{seed}", prompt, "panorama" if i == 1 else "object", seed)
            (own / "page.html").touch()
            table = own / "csv_logs" / "version_0" / "metrics.csv"
            table.write_text(f"consistency,residual,step\n{consistency},0.1,0\n")
    return folder


def cards(folder: Path, *words: str) -> list[tuple[str, list[tuple[str | None, str | None]]]]:
    """Each prompt of the page, with the seeds and links of its row."""
    assert cli.main(["gallery", *(words or [str(folder)])]) == 0
    html = Reader((folder / "gallery.html").read_text(encoding="utf-8"))
    rows: list[tuple[str, list[tuple[str | None, str | None]]]] = []
    for tag, attributes, _, _ in html.elements:
        if tag == "section":
            rows.append((attributes["data-prompt"] or "", []))
        elif tag == "li":
            rows[-1][1].append((attributes["data-seed"], None))
        elif tag == "a" and rows:
            rows[-1][1][-1] = (rows[-1][1][-1][0], attributes["href"])
    return rows


def test_a_row_is_a_prompt_and_the_lowest_self_consistency_is_its_first(tmp_path: Path) -> None:
    fill(tmp_path, ["b", "a"])
    ((first, left), (second, right)) = cards(tmp_path)
    assert (first, second) == ("a", "b")
    assert [seed for seed, _ in left] == [seed for seed, _ in right] == ["1", "3", "0", "2"]  # none of its own: last
    assert all((tmp_path / str(link)).is_file() for _, link in [*left, *right])


def test_runs_of_a_sweep_say_how_they_were_made(tmp_path: Path) -> None:
    plain, other = Variant("pullback", ""), Variant("sds levels=4", "")
    folder = Folder(tmp_path)
    folder.add(Plan((plain, other), ("a",), (0,)))
    for variant in (plain, other):
        make(tmp_path / "runs" / variant.name / "a-0", "a")
    assert len(cards(tmp_path)) == 1
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert ">pullback<" in page and ">sds levels=4<" in page
    cards(tmp_path, str(tmp_path / "runs" / plain.name), "--out", str(tmp_path / "gallery.html"))
    assert ">pullback<" not in (tmp_path / "gallery.html").read_text(encoding="utf-8")  # one way needs no name


def test_patterns_and_folders_name_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["a", "b"])
    monkeypatch.chdir(tmp_path)
    assert cards(tmp_path, "0-*", "0-1", "*/1-3") == [
        ("a", [(seed, f"0-{seed}/page.html") for seed in "1302"]), ("b", [("3", "deep/1-3/page.html")])
    ]  # fmt: skip


def test_what_is_no_run_is_left_out_or_refused_in_a_sentence(tmp_path: Path, capsys: Any) -> None:
    for words, told in ((["/none"], "there is no /none"), ([str(tmp_path)], "no run with pictures")):
        assert cli.main(["gallery", *words]) == 2
        assert told in capsys.readouterr().err
    make(tmp_path / "a")
    (make(tmp_path / "b") / "configs" / "parsed.yaml").write_text("[")
    shutil.rmtree(make(tmp_path / "c") / "save")
    assert len(cards(tmp_path)) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("left out: ") for line in told] == [True, True]
    assert told[1] == f"left out: {tmp_path / 'c'} has no picture yet"


def shown(tab: Any) -> list[float]:
    """Of each sample on the screen, how far its strip of pictures is moved, as a share of the strip."""
    return tab.evaluate("""() => [...document.querySelectorAll(".frame img")].map((image) => {
        const [strip, frame] = [image, image.parentElement].map((part) => part.getBoundingClientRect());
        return Math.round((frame.left - strip.left) / strip.width * 1000) / 1000;
    })""")


def test_all_turn_in_step_and_are_ordered_and_filtered(visit: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    cards(fill(tmp_path, ["a red cube", "a place", "a cone"]))
    tab = visit(tmp_path / "gallery.html", viewport={"width": 1200, "height": 1000})
    tab.wait_for_selector("#play[aria-pressed=false]")
    assert shown(tab) == [0.0] * 12
    tab.focus("#angle")
    for key, times in (("Home", 1), ("PageUp", 3), ("ArrowRight", 17)):  # 36°, a tenth of the range, and 1°
        for _ in range(times):
            tab.keyboard.press(key)
    assert shown(tab) == [0.333] * 4 + [0.0] * 4 + [0.333] * 4  # 125° of three views; a panorama is one
    box = tab.locator(".frame").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    tab.mouse.down()
    tab.mouse.move(box["x"], box["y"] + 20)  # half of its width to the left: 90° on
    tab.mouse.up()
    assert tab.input_value("#angle") == "215"
    tab.select_option("#order", "seed")
    seeds = "() => [...document.querySelectorAll('.card')].map((card) => card.dataset.seed).join('')"
    assert tab.evaluate(seeds) == "0123" * 3
    tab.fill("#search", "CUBE")
    assert tab.locator(".card:visible").count() == 4 and tab.inner_text("#found") == "4 samples"
    tab.click("#play")
    tab.wait_for_function("() => document.querySelector('#angle').value !== '215'")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_is_out_of_reach(width: int, scheme: str, visit: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    cards(fill(tmp_path, ["a red cube", "a place"]))
    tab = visit(tmp_path / "gallery.html", viewport={"width": width, "height": 844}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    try:
        assert violations(tab) == []
    except Unavailable as e:
        pytest.skip(str(e))


def test_prompts_are_texts_in_a_browser(visit: Callable[..., Any], tmp_path: Path) -> None:  # noqa: F811
    for i, prompt in enumerate(NASTY):
        make(tmp_path / str(i), prompt)
    assert [prompt for prompt, _ in cards(tmp_path)] == sorted(NASTY)
    tab = visit(tmp_path / "gallery.html")
    assert tab.evaluate("window.broken") is None and tab.locator("img").count() == len(NASTY)
    assert tab.evaluate("() => [...document.querySelectorAll('section')].map((s) => s.dataset.prompt)") == sorted(NASTY)
