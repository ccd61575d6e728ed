"""The `pullback` command's own arguments; what its runs do is tested with what they run."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pullback import cli
from pullback.cli.arguments import KNOWS, parse_seeds
from pullback.errors import UserError
from pullback.evaluate.studio import captions, world

LATE = ("diffusers", "transformers", "pytorch_lightning", "nerfacc", "omegaconf")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("5-5", [5]), ("0,2,5", [0, 2, 5]), ("7", [7]), ("12,3", [12, 3])]
)
def test_seeds_are_a_range_or_a_list(text: str, seeds: list[int]):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-", "1,,2", "0..3", "1.5", "0-3,5", "x-y", "3-1", "-1"])
def test_other_seeds_are_refused_with_the_two_ways_to_write_them(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="0-3 or 0,2,5") as refusal:
        parse_seeds(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    "arguments", [["--prompts", "0"], ["--prompts", "13"], ["--prompts", "-1"], ["--workers", "0"]]
)
def test_numbers_out_of_range_are_one_sentence(arguments: list[str], tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert cli.main(["evaluate", "prompts", *arguments, "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not out.exists()
    assert told.err.startswith("error: ") and len(told.err.splitlines()) == 1 and arguments[0] in told.err


def test_results_of_other_settings_are_not_mixed_with_new_ones(tmp_path: Path, capsys):
    saved = {"settings": {"config": "another.yaml"}, "rows": []}
    (tmp_path / "prompts.json").write_text(json.dumps(saved))
    assert cli.main(["evaluate", "prompts", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(tmp_path) in line and "another folder" in line
    assert json.loads((tmp_path / "prompts.json").read_text()) == saved


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "command"),
        (["evaluate"], "what"),
        (["evaluate", "promts"], "promts"),
        (["evaluate", "prompts", "--seeds", "a"], "0-3 or 0,2,5"),
        (["evaluate", "prompts", "--prompts", "two"], "--prompts"),
        (["evaluate", "prompts", "--seedz", "1"], "--seedz"),
        (["demo", "--seed", "x"], "--seed"),
        (["evaluate", "prompts", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "model", "--scales", "1;2"], "written 1,3"),
        (["evaluate", "model", "--samples", "0"], "--samples"),
    ],
)
def test_what_cannot_be_read_ends_with_status_2_and_names_itself(arguments: list[str], words: str, capsys):
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line


def test_overrides_may_stand_anywhere():
    read = cli.build_parser().parse_args
    args = read(["export", "RUN", "a=1", "--format", "ply", "b=2", "--no-texture", "c=x --y"])
    assert (args.folder, args.format, args.no_texture) == ("RUN", "ply", True)
    assert sorted(args.overrides) == ["a=1", "b=2", "c=x --y"]
    assert read(["demo", "a=1", "--seed", "3", "b=2"]).overrides == ["a=1", "b=2"]
    for words in (
        ["export", "RUN", "--format", "ply", "other"],
        ["report", "OUT", "a=1"],
        ["demo", "--seed", "1", "-x=1"],
    ):
        with pytest.raises(UserError, match="unrecognized arguments"):
            read(words)


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "prompts", "--help"]])
def test_help_needs_none_of_the_large_packages(arguments: list[str]):
    code = (
        "import sys\nfrom pullback import cli\n"
        f"try:\n    cli.main({arguments!r})\n"
        f"finally:\n    print([name for name in {LATE!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: pullback") and done.stdout.splitlines()[-1] == "[]"


def test_the_installed_command_is_this_one():
    command = Path(sys.executable).with_name("pullback")
    if not command.exists():
        pytest.skip("the package is not installed")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "demo" in done.stdout and "evaluate" in done.stdout


def parsers(parser: argparse.ArgumentParser, name: str = "pullback") -> list[tuple[str, argparse.ArgumentParser]]:
    found = [(name, parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                found += parsers(sub, f"{name} {word}")
    return found


@pytest.mark.parametrize(("name", "parser"), parsers(cli.build_parser()))
def test_help_has_a_text_and_the_default_of_every_option(name: str, parser: argparse.ArgumentParser):
    if name == "pullback launch":
        return  # launch.py's
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.dest == "help":
            continue
        assert action.help, (name, action.dest)
        told = action.default not in (None, argparse.SUPPRESS, []) and action.nargs != 0
        shown = parser._get_formatter()._expand_help(action)
        assert "default" in shown or not told, (name, action.dest)


def test_the_helps_name_all_choices(capsys: pytest.CaptureFixture[str]):
    from pullback.evaluate.diversity.campaign import GROUPS
    from pullback.evaluate.exact_worlds import methods, representations, worlds
    from pullback.evaluate.images.samples import Settings
    from pullback.evaluate.plan.cards import CARDS
    from pullback.resources import CONFIGS

    shipped = [path.stem for path in (CONFIGS / "compare" / "methods").glob("*.yaml")]
    plain = [name for name in worlds.WORLDS if not name.startswith("joint-")]
    for command, choices in {
        "plan": CARDS,
        "compare": shipped,
        "evaluate worlds": [*methods.METHODS, *plain, *worlds.GROUPS, *representations.REPRESENTATIONS],
        "evaluate diversity": ["pullback", "sds", *GROUPS],
        "evaluate images": Settings.__dataclass_fields__,
        "launch": ["--threestudio"],
    }.items():
        with contextlib.suppress(SystemExit):
            cli.main([*command.split(), "--help"])
        printed = re.sub(r"-\n +", "-", capsys.readouterr().out)  # a line may end within a name
        words = re.findall(r"[\w-]+", printed)
        assert [name for name in choices if name not in words] == [], command
    assert {name for name in worlds.WORLDS if name not in plain} == {
        "joint-pairs", *(f"joint-{name}" for name in worlds.SCENES),
    }  # fmt: skip


EXAMPLES = [
    (name, line.split("  ")[1] if line.startswith("  ") else line)
    for name, parser in parsers(cli.build_parser())
    for line in (parser.epilog or "").splitlines()
    if line.startswith("  pullback ")
]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_examples_of_the_help_can_be_read(name: str, example: str):
    program, *words = shlex.split(example)
    assert program == "pullback" and cli.build_parser().parse_args(words).run


def test_every_command_has_an_example():
    shown = {f"pullback {shlex.split(example)[1]}" for _, example in EXAMPLES}
    shown |= {" ".join(shlex.split(example)[:3]) for _, example in EXAMPLES if " evaluate " in example}
    assert {name for name, _ in parsers(cli.build_parser())} - {"pullback", "pullback launch"} <= shown


def test_what_the_help_says_of_the_shipped_model_is_its_world():
    text = " ".join(KNOWS.split())
    assert f"({', '.join(world.SHAPES)})" in text and f"({', '.join(world.COLORS)})" in text
    for quoted in re.findall(r'"([^"]+)"', text):
        assert captions.parse(quoted) is not None, quoted
