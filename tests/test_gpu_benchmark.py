"""`benchmarks/gpu.py` as far as a machine without a GPU goes: its sentence, its page, and its parts at small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")
sys.path.insert(0, str(SCRIPT.parent))
import gpu  # noqa: E402


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path):
    done = run("--out", str(tmp_path / "gpu.md"))
    assert done.returncode == 2 and done.stderr.startswith("error: no CUDA device") and not list(tmp_path.iterdir())
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--device", "cpu"], "--smoke"), (["--device", "gpu9"], "gpu9"), (["--only", "visits"], "visits")],
)
def test_bad_arguments_are_refused(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        gpu.main()
    assert stop.value.code == 2 and words in capsys.readouterr().err


def test_the_page_has_every_part_and_the_reason_of_a_failure():
    results = {
        "tests": {"header": ["passed", "failed"], "rows": [[50, 1]], "notes": ["FAILED tests/test_noise.py::x"]},
        "demo": {"error": "took longer than 100 s"},
    }
    page = gpu.page(["0.2.0, 2026-11-28", "NVIDIA H100, 80 GiB"], results, {"tests": 61.2, "demo": 100.0}, smoke=False)
    assert page.startswith("# On a GPU\n") and "mean nothing" not in page
    assert "- NVIDIA H100, 80 GiB\n" in page and "| 50 | 1 |" in page and "- FAILED tests/test_noise.py::x" in page
    assert "(61 s)" in page and "**Failed**: took longer than 100 s" in page
    assert "mean nothing" in gpu.page([], {}, {}, smoke=True)


def test_a_part_that_fails_or_takes_too_long_is_an_error_and_no_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = tmp_path / "gpu.py"
    script.write_text("import sys, time\nprint('{\"rows\": []}')\nsys.stderr.write('ValueError: no\\n')\n"
                      "time.sleep(60 * ('sdxl' in sys.argv)); sys.exit('demo' in sys.argv)")  # fmt: skip
    monkeypatch.setattr(gpu, "__file__", str(script))
    assert gpu.in_a_process("fit", CPU, True, 60) == {"rows": []}
    assert gpu.in_a_process("demo", CPU, True, 60) == {"error": "ValueError: no"}
    assert gpu.in_a_process("sdxl", CPU, True, 3) == {"error": "took longer than 3 s"}


def test_all_parts_have_their_time_within_eight_minutes():
    assert sum(limit for _, limit, _ in gpu.PARTS.values()) >= gpu.TOTAL and gpu.TOTAL < 8 * 60


def test_seconds_go_to_the_part_that_took_them():
    result = gpu.run_visit("sd-1.5", CPU, smoke=True)
    seconds = {row[0]: float(row[1]) for row in result["rows"]}
    parts = sum(value for name, value in seconds.items() if name != "visit")
    assert set(seconds) == {"visit", "render", "encode", "denoise", "decode", "fit"} and min(seconds.values()) > 0
    assert parts <= seconds["visit"] + 0.001 * len(seconds)  # each is rounded to a thousandth
    assert "launches" in result["notes"][1]


@pytest.mark.slow
def test_the_whole_of_it_runs_at_small_sizes_on_a_cpu(tmp_path: Path):
    out = tmp_path / "gpu.md"
    done = run("--smoke", "--device", "cpu", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    page = out.read_text(encoding="utf-8")
    assert all(title in page for title, _, _ in gpu.PARTS.values()) and "Failed" not in page
