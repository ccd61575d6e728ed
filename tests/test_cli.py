"""The `pullback` command's own arguments; what its runs do is tested with what they run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pullback import cli
from pullback.cli.arguments import parse_seeds

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
