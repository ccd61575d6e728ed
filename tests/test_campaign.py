"""Results of a campaign: rows by key, settings that must match, files of earlier versions; options "key=value"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from pullback import cli
from pullback.baselines import sds
from pullback.errors import UserError
from pullback.evaluate import options, prompts
from pullback.evaluate.campaign import Results
from pullback.evaluate.compare import plan
from pullback.evaluate.exact_worlds import methods, runner, world
from pullback.evaluate.exact_worlds.distilled import distilled
from pullback.evaluate.studio.held_out import OBJECTS
from pullback.resources import TINY_CONFIG
from pullback.sampling.state import Result

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def square(number: int) -> dict[str, int]:
    return {"number": number, "square": number**2}


def test_only_what_is_missing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Results(tmp_path / "a" / "rows.json", ("number",))
    first.match("power", value=2)
    first.run(square, {(n,): (n,) for n in (3, 1)}, 1, str)
    again = Results(first.file, ("number",))
    again.run(square, {(n,): (n,) for n in (1, 2, 3)}, 1, str)
    assert [row["square"] for row in again.rows] == [9, 1, 4] and [row["square"] for row in again.of()] == [1, 4, 9]
    assert "[1/1]" in capsys.readouterr().out.splitlines()[-1]
    assert json.loads(first.file.read_text()) == {"power": 2, "rows": again.rows}


def test_a_row_that_failed_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": [{"number": 1, "failed": "NaN"}, square(2)]}))
    made = Results(file, ("number",)).run(square, {(n,): (n,) for n in (1, 2)}, 1, str)
    assert [row["number"] for row in made.rows] == [2, 1]


def test_other_settings_are_named(tmp_path: Path) -> None:
    results = Results(tmp_path / "rows.json", ("number",))
    results.match("seed", value=0)
    results.match("settings", "shapes", "sds", value={"steps": 3, "lr": 0.1})
    with pytest.raises(UserError, match=r"other settings: --seed 0, not 1; choose another folder$"):
        results.match("seed", value=1)
    with pytest.raises(UserError, match=r"shapes: sds: steps 3, not 4; choose another folder$"):
        results.match("settings", "shapes", "sds", value={"steps": 4, "lr": 0.1})
    # an option that the folder does not know was at its default
    results.match("settings", "shapes", "sds", value={"steps": 3, "lr": 0.1, "eta": 0.0}, absent={"eta": 0.0})
    with pytest.raises(UserError, match=r"eta 0\.0, not 0\.3"):
        results.match("settings", "shapes", "sds", value={"steps": 3, "lr": 0.1, "eta": 0.3}, absent={"eta": 0.0})


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"rows": [')
    with pytest.raises(UserError, match=r"rows\.json is not valid JSON"):
        Results(tmp_path / "rows.json", ("number",))


@pytest.mark.parametrize("folder", ["worlds", "panorama"])
def test_published_rows_are_found_and_go_on(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = json.loads((RESULTS / folder / "worlds.json").read_text())
    (tmp_path / "worlds.json").write_text(json.dumps(saved))
    monkeypatch.setattr(runner, "run_one", None)
    for name, labels in saved["settings"].items():
        label = next(iter(labels))
        seeds = [row["seed"] for row in saved["rows"] if (row["world"], row["method"]) == (name, label)]
        results = runner.run([name], [methods.parse(label)], seeds, tmp_path, 1)
        assert seeds and len(results.of(name, label)) == len(seeds)


def test_published_prompts_are_found_though_their_config_lies_elsewhere_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = json.loads((RESULTS / "prompts" / "prompts.json").read_text())
    (tmp_path / "prompts.json").write_text(json.dumps(saved))
    monkeypatch.setattr(prompts, "run_one", None)
    rows = prompts.evaluate(TINY_CONFIG, tmp_path, [0, 1], OBJECTS, saved["settings"]["overrides"], 1)
    assert rows == saved["rows"]


@pytest.mark.parametrize(("package", "source"), [("yaml", '"threestudio-pullback[host,models]"'), ("mine", "mine")])
def test_a_missing_package_is_one_sentence(
    package: str, source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{package}.core'", name=f"{package}.core")

    monkeypatch.setattr("pullback.cli.evaluate.run_model", missing)
    assert cli.main(["evaluate", "model"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: the package '{package}' is missing; install it: pip install {source}\n"


@dataclass(frozen=True)
class Kinds:
    steps: int = 3
    lr: float = 0.1
    weight: str = "sds"
    exact: bool = False


def test_options_have_the_types_of_their_defaults() -> None:
    words = ["exact=True", "lr=1e-2", "steps=7"]
    found = options.read(words, options.of(Kinds), "settings")
    assert found == {"steps": 7, "lr": 0.01, "exact": True} and list(found) == ["steps", "lr", "exact"]
    assert options.label("mine", found) == "mine steps=7 lr=0.01 exact=true"
    assert Kinds(**options.read(options.label("", found).split(), options.of(Kinds), "")) == Kinds(**found)


@pytest.mark.parametrize(
    ("word", "said"),
    [("step=3", "'step=3' is no option; write key=value with one of steps=3, lr=0.1"),
     ("steps", "'steps' is no option"),
     ("steps=1.5", "steps must be a number"), ("exact=1", "exact must be true or false, not '1'")],
)  # fmt: skip
def test_a_word_that_is_no_option_is_one_sentence(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        options.read([word], options.of(Kinds), "--method 'mine'")
    assert str(caught.value).startswith("--method 'mine': ") and "\n" not in str(caught.value)


def test_a_baseline_needs_its_line_in_the_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(diffrep, views, denoise, sigmas, steps=10, lr=0.1, half=False, generator=None) -> Result:
        return sds.sample(
            diffrep, views, denoise, sigmas, steps=steps // 2 if half else steps, lr=lr, generator=generator
        )

    monkeypatch.setitem(methods.METHODS, "half", methods.Method("half", "Half", "", distilled(sample, lr=0.2)))
    assert methods.METHODS["half"].options["lr"] == 0.2
    outcome = methods.parse("half half=true steps=6 levels=10")(world("mixture"), 0)
    assert outcome.nfe == 3
    with pytest.raises(UserError, match="half"):
        methods.parse("halve")


def test_files_of_methods_take_title_and_reference_from_the_table() -> None:
    names = plan.usual()
    assert {"pullback", "sds", "sjc", "vsd", "sdi"} <= set(names)
    for method in plan.load_methods(plan.CONFIGS / "pullback-nerf-tiny.yaml", names, None):
        assert (method.title, method.reference) == (
            methods.METHODS[method.name].title,
            methods.METHODS[method.name].reference,
        )
