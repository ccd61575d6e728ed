"""What the documentation tells a reader to type is valid, and what it points to is there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pullback import cli
from pullback.errors import UserError
from pullback.host import arguments, parts
from pullback.host.config import ExperimentConfig, check_parts, load_config
from pullback.host.registry import find
from pullback.host.run import Run
from pullback.resources import CONFIGS
from pullback.sweep.plan import grid

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PACKAGE = ROOT / "custom" / "threestudio-pullback"
DEMO = "configs/pullback-nerf-tiny.yaml"
PROMPT = "system.prompt_processor.prompt=a red cube"
# configs that a threestudio checkout has
THREESTUDIOS = (
    "dreamfusion-sd", "fantasia3d", "fantasia3d-texture", "magic3d-coarse-sd", "magic3d-refine-sd", "prolificdreamer",
    "prolificdreamer-geometry", "prolificdreamer-texture", "sdi",
)  # fmt: skip
DROPIN_KEY = "system.loss.lambda_pullback"  # has no default in a config of ours
RUN_FOLDERS = ("outputs/", "RUN/")  # what a run will have written
SUFFIXES = (".md", ".py", ".sh", ".toml", ".txt", ".yaml")


def documents() -> list[Path]:
    beside = [ROOT / folder / "README.md" for folder in ("benchmarks", "experiments")]
    cards = sorted((PACKAGE / "pullback").rglob("README.md"))
    return [README, ROOT / "CONTRIBUTING.md", *beside, *cards, *sorted((ROOT / "docs").rglob("*.md"))]


def lines_of_code(markdown: str) -> Iterator[str]:
    """The shell lines of fenced blocks, and inline code, but for a section on what is not there yet.

    A backslash at a line's end joins it with the next.
    """
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
    markdown = re.sub(r"^## [^\n]*not there yet.*?(?=^## |\Z)", "", markdown, flags=re.M | re.S)
    for language, block in fence.findall(markdown):
        if language in ("", "bash", "console", "sh", "shell"):
            yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`\n]+)`", fence.sub("", markdown)):
        if "…" not in span and len(span.split()) > 1:
            yield span


def header_lines(config: str) -> Iterator[str]:
    """The indented lines of the comment that a config begins with."""
    header = re.match(r"(#.*\n)+", config)
    text = re.sub(r"^# ?", "", header[0], flags=re.M) if header else ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("  "):
            yield line


def commands(lines: Iterator[str]) -> Iterator[list[str]]:
    """Commands of this project among shell lines, as words that start with the program's bare name."""
    for line in lines:
        if not re.search(r"\b(pullback|make|python\d?)\b", line):
            continue
        with contextlib.suppress(ValueError):  # prose with an apostrophe is no command
            words = shlex.split(re.sub(r"^\s*\$ ", "", line), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and re.fullmatch(r"(\.venv/bin/)?(pullback|make|python3?)", words[0]):
                yield [Path(words[0]).name, *words[1:]]


def documented() -> list[tuple[str, list[str]]]:
    found = [(p, lines_of_code(p.read_text())) for p in documents() if p.exists()]
    found += [(p, header_lines(p.read_text())) for p in sorted((ROOT / "configs").glob("*.yaml"))]
    return [(str(p.relative_to(ROOT)), command) for p, lines in found for command in commands(lines)]


def keys_in(text: str) -> list[str]:
    """Config keys written out in full in prose: data.width, system.guidance.levels=…"""
    return re.findall(r"(?<![\w./])(?:data|system)(?:\.[a-z_]+)+(?=[`=\s,;)]|$)", text)


def unknown_keys(text: str, config: str = DEMO) -> list[str]:
    parts.load_parts()
    cfg = load_config(config, cli_args=[PROMPT], n_gpus=1)
    filled = check_parts(ExperimentConfig, cfg)
    keys = [key for key in keys_in(text) if key != DROPIN_KEY]
    return [key for key in keys if OmegaConf.select(OmegaConf.create(filled), key, default="") == ""]


def fault(command: list[str]) -> str | None:
    """What is wrong with a command, found without running it; None if nothing is."""
    program, *arguments = command
    try:
        if program == "make":
            return fault_of_make(arguments)
        if program == "pullback":
            return fault_of_pullback(arguments)
        if arguments[:1] == ["launch.py"]:
            return fault_of_launch(arguments[1:])
    except UserError as error:
        return str(error)
    script = arguments[0] if arguments and arguments[0].endswith(".py") else None
    return None if script is None or (ROOT / script).is_file() else f"there is no {script}"


def fault_of_launch(argv: list[str]) -> None:
    """The checks of a run up to the point where it would make folders and load models."""
    if "--threestudio" in argv:
        argv = [word for i, word in enumerate(argv) if "--threestudio" not in argv[max(0, i - 1) : i + 1]]
    args, overrides = arguments.parse_args(argv)
    config = args.config
    if Path(config).stem in THREESTUDIOS:
        keys = [key for key, _, _ in (o.partition("=") for o in overrides) if key != DROPIN_KEY]
        wrong = unknown_keys(" ".join(f"{key}=" for key in keys))
        if wrong:
            raise UserError(f"no such keys: {wrong}")
        return
    if config.startswith(RUN_FOLDERS):
        config, overrides = DEMO, [PROMPT, *overrides]
    parts.load_parts()
    run = Run(argv)
    cfg = run.cfg = load_config(config, cli_args=overrides, n_gpus=1)
    for part in ("data", "system"):
        find(cfg[f"{part}_type"], f"{part}_type")
    check_parts(ExperimentConfig, cfg)
    run._check_keywords()


def fault_of_pullback(argv: list[str]) -> str | None:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            args = cli.build_parser().parse_args(argv)
    except SystemExit as end:
        return told.getvalue() if end.code else None
    words = getattr(args, "overrides", None) or []
    choices = [] if words[:1] == ["status"] else list(grid(words)) if argv[0] == "sweep" else [words]
    for choice in filter(None, choices):
        fault_of_launch(["--config", str(getattr(args, "config", DEMO)), "--train", PROMPT, *choice])
    return None


def fault_of_make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    variables = set(re.findall(r"^(\w+) *\??=", makefile, re.M))
    for word in words:
        name, equals, _ = word.partition("=")
        if not word.startswith("-") and name not in (variables if equals else targets):
            return f"the Makefile has no {'variable' if equals else 'target'} {name}"
    return None


def missing_files(document: Path) -> list[str]:
    """Relative links and names of files in inline code that lead nowhere."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)|\bsrc=\"([^\"]+)\"", text)
    targets = [a or b for a, b in links]
    relative = [t.partition("#")[0] for t in targets if not re.match(r"#|\w+:", t)]
    missing = [t for t in relative if not (document.parent / t).exists()]
    top = {entry.name for entry in ROOT.iterdir()} - {"outputs"}
    for span in re.findall(r"`([^`\s]+)`", text):
        name = span.removeprefix("…/").removesuffix("/")
        if Path(name).stem in THREESTUDIOS:
            continue
        if not re.fullmatch(r"[\w.*/-]+", name) or name.startswith(("/", *RUN_FOLDERS)):
            continue
        inside = "/" in span and (span.startswith("…/") or name.partition("/")[0] in top)
        if inside or name.endswith(SUFFIXES):
            folders = (ROOT, document.parent, PACKAGE, PACKAGE / "pullback", CONFIGS)  # configs go by bare names
            if not any(next(folder.glob(name), None) for folder in (folders[2:] if span[0] == "…" else folders)):
                missing.append(span)
    return missing


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("where", "command"), documented(), ids=lambda v: v if isinstance(v, str) else shlex.join(v))
def test_what_the_documentation_says_to_type_is_valid(where: str, command: list[str]):
    assert fault(command) is None, where


GUIDES = [README, *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", GUIDES, ids=lambda p: p.name)
def test_commands_to_paste_begin_with_the_environments_path(page: Path):
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S)
    elsewhere = (
        r"python launch\.py --config configs/dreamfusion|pullback demo    # works in any folder"  # not in a clone
    )
    typed = [line for block in blocks for line in block.splitlines() if re.match(r"(python3?|pullback|pip)\b", line)]
    assert [line for line in typed if not re.match(elsewhere + r"|pip install", line)] == []


def test_the_readme_shows_the_two_commands_and_a_run():
    shown = [shlex.join(command) for where, command in documented() if where == "README.md"]
    assert {"make demo", "make test"} <= set(shown)
    assert any(command.startswith("python launch.py --config") for command in shown)


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_the_documentation_points_to_is_there(document: Path):
    assert missing_files(document) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_a_config_begins_with_a_command_that_runs_it(path: Path):
    shown = [command for where, command in documented() if where == f"configs/{path.name}"]
    assert shown and all(f"configs/{path.name}" in command for command in shown)


PROSE = [README, ROOT / "docs" / "running.md", *sorted((ROOT / "configs").glob("*.yaml"))]


@pytest.mark.parametrize("path", PROSE, ids=lambda p: p.name)
def test_config_keys_in_prose_are_known(path: Path):
    page = path.suffix == ".md"
    prose = "\n".join(line for line in path.read_text().splitlines() if page or line.startswith("#"))
    assert keys_in(prose) and unknown_keys(prose, DEMO if page else str(path)) == []


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
    assert capsys.readouterr().out


# ---- the checks themselves

TRAIN = f"python launch.py --config {DEMO} --train system.prompt_processor.prompt='a cube'"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{TRAIN} system.guidance.levles=3", "`system.guidance.levles`"),
        (f"{TRAIN} system.geometry.grid_sise=3", "`system.geometry.grid_sise`"),
        (f"{TRAIN} trainer.max_step=3", "`trainer.max_step`"),
        (f"{TRAIN} data.batch_size=0", "batch_size"),
        (TRAIN.replace("--train", "--trian"), "--train"),
        (TRAIN.replace("tiny", "tyni"), "cannot read the config file"),
        (f"python launch.py --config {DEMO} --train", "system.prompt_processor.prompt"),
        ("python launch.py --config RUN/configs/parsed.yaml --export system.exporter.fnt=glb", "`system.exporter.fnt`"),
        ("pullback evaluate promts", "promts"),
        ("pullback evaluate prompts system.guidance.levles=3", "`system.guidance.levles`"),
        ("pullback demo --sead 3", "--sead"),
        ("make dmeo", "dmeo"),
        ("make demo PROMT=x", "PROMT"),
        ("python benchmarks/fitt.py", "benchmarks/fitt.py"),
    ],
)
def test_a_misspelt_command_is_found(line: str, words: str):
    (command,) = commands(iter([line]))
    assert words in (fault(command) or "")


def test_a_misspelt_key_in_prose_is_found():
    text = "`system.guidance.levels`, `system.guidance.levles`; system.guidence.cycles=… data.width=64 data.wdith=64"
    assert unknown_keys(text) == ["system.guidance.levles", "system.guidence.cycles", "data.wdith"]


def test_commands_are_found_in_markdown_and_headers(tmp_path: Path):
    markdown = """Prose: `make demo`, `pullback`, `pullback evaluate …` and it's not make believe.

```bash
$ SEED=1 .venv/bin/python launch.py --config a.yaml --train \\
    system.x="a b"   # comment
pullback demo --prompt 'it is a cube'
git commit -m "make x"
```

```python
make = 1
```
"""
    assert list(commands(lines_of_code(markdown))) == [
        ["python", "launch.py", "--config", "a.yaml", "--train", "system.x=a b"],
        ["pullback", "demo", "--prompt", "it is a cube"],
        ["make", "demo"],
    ]
    header = (
        "# Text:\n#\n#   python launch.py --config a.yaml \\\n#       --train\n# make of it what you will\nname: x\n"
    )
    assert list(commands(header_lines(header))) == [["python", "launch.py", "--config", "a.yaml", "--train"]]


def test_links_that_lead_nowhere_are_found(tmp_path: Path):
    document = tmp_path / "a.md"
    (tmp_path / "here.md").touch()
    document.write_text(
        "[here](here.md#part) [gone](gone.md) [web](https://example.org/x.md) [part](#part)\n"
        "![picture](picture.png) `configs/*.yaml` `configs/none.yaml` `launch.py` `lunch.py` `tests/` `tests/none`\n"
        "`…/host/` `…/hots/` `outputs/x.yaml` `/models/a.yaml` `stable-diffusion-v1-5/stable-diffusion-v1-5`\n"
    )
    found = ["gone.md", "picture.png", "configs/none.yaml", "lunch.py", "tests/none", "…/hots/"]
    assert missing_files(document) == found


def test_the_checks_start_nothing(tmp_path: Path):
    (command,) = commands(iter([f"{TRAIN} exp_root_dir={tmp_path / 'out'} system.guidance.fit_space=latent"]))
    assert fault(command) is None and os.listdir(tmp_path) == []
