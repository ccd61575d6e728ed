"""How errors speak: one sentence without a full stop, which begins in lower case unless with a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "custom" / "threestudio-pullback" / "pullback"
ERRORS = {"UserError", "ConfigError", "ModelError", "NonFiniteError"}
FILES = sorted(PACKAGE.rglob("*.py"))
NAME = r"[A-Z]\w*[A-Z0-9_]\w*|[A-Z]"  # a class, an abbreviation or a symbol: FirstOrder, SDI, CLIP, J
NAMES = {"Langevin", "Linear", "Perp-Neg", "Pixels", "Projection", "Repaint", "Restart", "Settle", "Smooth"}


def pieces(node: ast.expr) -> list[str]:
    """The literal text of a message, from left to right; a value that is not known here is an empty piece."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [text for value in node.values for text in pieces(value)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return pieces(node.left) + pieces(node.right)
    return [""]


def messages(file: Path) -> Iterator[tuple[int, list[str], bool]]:
    """Line and pieces of every message of these errors, and whether it begins the sentence."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        error = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if error not in ERRORS or not node.args:
            continue
        place = 1 if error == "ConfigError" else 0  # after the key
        if place < len(node.args):
            yield node.lineno, pieces(node.args[place]), error != "ConfigError"


def faults(file: Path) -> list[str]:
    """Line and text of every message that speaks otherwise."""
    wrong = []
    for line, parts, begins in messages(file):
        text = parts[0].lstrip("'\"`(")
        first = text.split(maxsplit=1)[0] if text.strip() else ""
        word = re.split(r"[^\w-]", first)[0]
        named = word in NAMES or re.fullmatch(NAME, word) is not None
        if parts[-1].rstrip().endswith(".") or (begins and first[:1].isupper() and not named):
            wrong.append(f"line {line}: {parts[0]} … {parts[-1]}")
    return wrong


def test_the_reader_of_messages_sees_every_form(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        'raise UserError("a full stop.")\n'
        'raise errors.ConfigError("key", f"of {value}" " joined.")\n'
        'raise ModelError("a" + f"{b}" + "c.")\n'
        'raise NonFiniteError("Capital")\n'
    )
    assert [fault.split(":")[0] for fault in faults(file)] == ["line 1", "line 2", "line 3", "line 4"]
    file.write_text('raise UserError(f"{self} is wrong; use CLIP")\nraise ConfigError("key", "must be 1")\n')
    assert faults(file) == [] and len(list(messages(file))) == 2


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_error_sentences_end_without_a_full_stop(file: Path) -> None:
    assert faults(file) == []
