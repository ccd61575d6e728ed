"""Malformed input of every kind: exit status 2, one sentence, no traceback, under 20 s of processor time.

Values come from hypothesis, by the annotations of the registered parts' dataclasses, and from mutations of valid files.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import report_example  # pyright: ignore[reportMissingImports]
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis import seed as seeded
from pullback.host.config import ExperimentConfig
from pullback.host.registry import find, is_registered
from pullback.output import mesh_files

from . import odd, runs
from .results import Results, Row, nameless, workplace

MEMORY, SECONDS = 10 << 30, 20
KIND = {"nerf": 60, "image": 20, "panorama": 20}  # cases of the schema, by config
ODD_TEXTS = [
    "",
    " ",
    "abc",
    "null",
    "[",
    "{",
    "]",
    "1e400",
    "0x",
    "${x}",
    "${",
    "~",
    "é",
    "a: b",
    "!!python/name:os.system",
]


@dataclasses.dataclass(frozen=True)
class Case:
    """A command line, and what prepares its files."""

    words: list[str]
    what: str


def run(results: Results, args: Any) -> None:
    runs.preload()
    warnings.simplefilter("ignore")
    with workplace(args.work, "input") as work:
        place = Place(work, runs.model(work))
        cases: dict[str, Callable[[], Row]] = {}
        for maker in (
            schema,
            overrides,
            yaml_files,
            prompts,
            prompt_files,
            models,
            checkpoints,
            meshes,
            saved_results,
            options,
        ):
            name = maker.__name__.replace("_", " ")
            made = maker(place, random.Random(f"{args.seed} {name}"), args.seed)
            cases |= {f"{name} {number}": functools.partial(judge, place, case) for number, case in enumerate(made)}
        # Linux starts no process with a word of more than 128 KiB, or with a zero byte or half a character in one
        words = {name: made.args[1].words for name, made in cases.items()}
        fit = [name for name, own in words.items() if all(map(_passes, own))]
        chosen = random.Random(args.seed).sample(sorted(fit), 12)
        cases |= {f"process: {name}": functools.partial(judge, place, cases[name].args[1], True) for name in chosen}
        results.run(cases, args.only)


def _passes(word: str) -> bool:
    return len(word) < 10**5 and not re.search("[\0\ud800-\udfff]", word)


class Place:
    """Valid files to mutate, made once."""

    def __init__(self, work: Path, sd: Path) -> None:
        self.work, self.sd, self.out = work, sd, work / "out"
        self.trained = work / "trained"
        if not (runs.folder(self.trained) / "ckpts" / "last.ckpt").exists():
            self.trained.mkdir(exist_ok=True)
            words = ["launch", *runs.words("nerf", sd, self.trained, "trainer.max_steps=2")]
            assert runs.finish(runs.fork(words, self.trained / "log")) == 0

    def words(self, kind: str, *more: str, sd: Path | None = None) -> list[str]:
        quick = ["trainer.max_steps=1", "data.n_test_views=1", "trainer.limit_val_batches=0"]
        return ["launch", *runs.words(kind, sd or self.sd, self.out, *quick, *more)]

    def new(self, name: str) -> Path:
        """A path that is not there, in a folder of its own kind; it stays for the cases that run later."""
        folder = self.work / "made"
        folder.mkdir(exist_ok=True)
        path = folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path


def judge(place: Place, case: Case, real: bool = False) -> Row:
    shutil.rmtree(place.out, ignore_errors=True)
    log = place.work / "log"
    log.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if real:
        command = [sys.executable, "-m", "pullback", *case.words]
        with log.open("wb") as stream:
            done = subprocess.run(command, stdout=stream, stderr=stream, timeout=300, env=os.environ)
        status = done.returncode
    else:
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (MEMORY, MEMORY))
        status = runs.finish(runs.fork(case.words, log, limit), 30 * SECONDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = nameless(log.read_text(errors="replace"))
    errors = re.findall(r"^error: .*$", text, re.M)
    faults = []
    if "Traceback" in text:
        faults.append("traceback: " + " ".join(text.split()[-40:])[-300:])
    elif status not in (0, 1, 2):
        faults.append(f"status {status}")
    elif status and len(errors) != 1:
        faults.append(f"{len(errors)} sentences")
    elif status and text.rstrip().splitlines()[-1] != errors[0] and status == 2:
        faults.append("more than one line")
    if spent > SECONDS:
        faults.append(f"{spent:.0f} s")
    end = {0: "accepted", 2: "ok"}.get(status, f"status {status}")
    return {
        "what": nameless(case.what)[:160], "status": status, "said": (errors or [""])[-1][7:400],
        "cpu": round(spent, 1), "verdict": "; ".join(faults) or end,
    }  # fmt: skip


# ---- drawing


def draws(strategy: Any, count: int, seed: int) -> list[Any]:
    """Examples of a strategy, no two alike."""
    found: dict[str, Any] = {}

    @seeded(seed)
    @settings(
        max_examples=4 * count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(strategy)
    def collect(value: Any) -> None:
        found.setdefault(repr(value), value)

    collect()
    values = list(found.values())
    random.Random(seed).shuffle(values)
    return values[:count]


scalars = strategies.one_of(
    strategies.sampled_from(ODD_TEXTS), strategies.integers(-3, -1), strategies.sampled_from([10**20, -(10**30)]),
    strategies.sampled_from([float("nan"), float("inf"), -1e308, -0.5]), strategies.none(), strategies.booleans(),
)  # fmt: skip
trees = strategies.recursive(
    scalars, lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(
        strategies.sampled_from(["a", "type", "name", "0", ""]), inner, max_size=3
    ), max_leaves=6,
)  # fmt: skip


def wrong(hint: Any) -> Any:
    """Values that are of no use where the annotation stands: of another type, or out of any range."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds = [kind for kind in kinds if kind is not type(None)]
    structure = strategies.lists(scalars, min_size=1, max_size=3) | strategies.dictionaries(
        strategies.sampled_from(["a", "lr"]), scalars, min_size=1, max_size=2
    )
    by_kind = {
        int: structure | strategies.sampled_from(["abc", 0.5, float("nan"), -(10**9), 10**20, [1], "1,2"]),
        float: structure | strategies.sampled_from(["abc", float("nan"), float("inf"), [1.0], "1,2", {"a": 1}]),
        bool: structure | strategies.sampled_from(["abc", 2, -1, 0.5]),
        str: structure | strategies.sampled_from([["a"], {"a": 1}]),
        dict: strategies.sampled_from([3, "abc", [1], True, 0.5]),
    }
    if len(kinds) == 1 and kinds[0] in by_kind:
        return by_kind[kinds[0]]
    return trees


def fields(cls: Any, block: Any, base: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a config with its annotation, by the dataclasses of the parts that it names."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, hint = f"{base}{field.name}", hints[field.name]
        yield key, hint
        kind = block.get(f"{field.name}_type", "") if isinstance(block, dict) else ""
        if f"{field.name}_type" in hints and is_registered(str(kind)):
            yield from fields(find(kind).Config, block.get(field.name), f"{key}.")


def written(value: Any) -> str:
    """A value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


# ---- the cases


def schema(place: Place, draw: random.Random, seed: int) -> list[Case]:
    computed = {"exp_dir", "trial_name", "trial_dir", "n_gpus", "description"}
    cases = []
    for kind, count in KIND.items():
        block = yaml.safe_load((runs.ROOT / runs.CONFIGS[kind][0]).read_text())
        known = [(key, hint) for key, hint in fields(ExperimentConfig, block) if key not in computed]
        for number in range(count):
            key, hint = draw.choice(known)
            value = written(draw.choice(draws(wrong(hint), 12, seed + number)))
            cases.append(Case(place.words(kind, f"{key}={value}"), f"{kind}: {key}={value}"))
    for name in ("trainer", "checkpoint", "system.optimizer", "system.optimizer.params.geometry", "system.scheduler"):
        for value in draws(trees, 6, seed):
            key = (
                f"{name}.{draw.choice(['name', 'args', 'lr', 'max_steps', 'precision', 'save_top_k', 'monitor', 'x'])}"
            )
            cases.append(Case(place.words("nerf", f"{key}={written(value)}"), f"nerf: {key}={written(value)}"))
    return cases


def overrides(place: Place, draw: random.Random, seed: int) -> list[Case]:
    fixed = odd.OVERRIDES
    cases = [Case(place.words("nerf", word), word) for word in fixed]
    for word in draws(strategies.text(min_size=1, max_size=12), 14, seed):
        cases.append(Case(place.words("nerf", f"data.{word}"), f"data.{word}"))
        cases.append(Case(place.words("nerf", f"data.width={word}"), f"data.width={word}"))
    return cases


def mutated(text: bytes, draw: random.Random) -> bytes:
    """A text with one thing wrong."""
    lines, at = text.split(b"\n"), draw.randrange(len(text))
    line = draw.randrange(len(lines))
    odd = [b"\t", b"\0", b"{", b"[", b"'", b'"', b"*a", b"&a", b"!x ", b"\xff", b"- ", b": ", b"%", b"@", b"<<: "]
    return draw.choice([
        text[:at], text[:at] + draw.choice(odd) + text[at:], text[:at] + bytes([draw.randrange(256)]) + text[at + 1 :],
        b"\n".join([*lines[:line], lines[line][1:], *lines[line + 1 :]]),
        b"\n".join([*lines[:line], *lines[line + 1 :]]),
        b"\n".join([*lines[:line], b"   " + lines[line], *lines[line + 1 :]]),
        b"\n".join([*lines[:line], draw.choice(odd) + lines[line], *lines[line + 1 :]]),
    ])  # fmt: skip


def yaml_files(place: Place, draw: random.Random, seed: int) -> list[Case]:
    bomb = "a: &a [x, x]\n" + "".join(
        f"b{i}: &b{i} [{', '.join(['*a' if i == 0 else f'*b{i - 1}'] * 9)}]\n" for i in range(9)
    )
    fixed = {
        "empty": b"", "zero": b"\0" * 100, "list": b"- 1\n- 2\n", "scalar": b"3\n", "bomb": bomb.encode(),
        "deep": b"a: " + b"[" * 20000, "utf-16": "name: x\n".encode("utf-16"),
        "tag": b"name: !!python/object/apply:os.getcwd []\n",
        "two documents": b"name: a\n---\nname: b\n", "keys": b"1: 2\nnull: 3\n? [a]\n: 4\n",
        "twice": b"data: 1\ndata: {}\n",
        "cycle": b"data: &d\n  self: *d\n", "long": b"name: " + b"x" * 10**6, "date": b"seed: 2020-01-01\n",
    }  # fmt: skip
    valid = (runs.ROOT / runs.CONFIGS["nerf"][0]).read_bytes()
    contents = [*fixed.items(), *((f"mutation {i}", mutated(valid, draw)) for i in range(46))]
    cases = []
    for name, content in contents:
        file = place.new(f"config {name}.yaml")
        file.write_bytes(content)
        words = place.words("nerf")
        words[words.index("--config") + 1] = str(file)
        cases.append(Case(words, name))
    return cases


def prompts(place: Place, draw: random.Random, seed: int) -> list[Case]:
    texts = odd.PROMPTS
    cases = [
        Case(place.words("nerf", f"system.prompt_processor.prompt={text}"), f"prompt {text[:40]!r}") for text in texts
    ]
    for text in texts[:20]:
        cases.append(
            Case(place.words("nerf", f"system.prompt_processor.negative_prompt={text}"), f"negative {text[:40]!r}")
        )
    for text in draws(strategies.text(max_size=30), 10, seed):
        cases.append(Case(place.words("nerf", f"system.prompt_processor.prompt={text}"), f"prompt {text!r}"))
    return cases


def prompt_files(place: Place, draw: random.Random, seed: int) -> list[Case]:
    contents = {
        "empty": b"", "comments": b"# a\n#\n", "bytes": bytes(range(256)), "utf-16": "a red cube".encode("utf-16"),
        "utf-32": "a red cube".encode("utf-32"), "latin": "é\n".encode("latin-1"),
        "zero": b"\0\0\0", "spaces": b" \n\t\n",
        "mark": b"\xef\xbb\xbf", "library": b"lib:nothing_like_it\n", "half": "ёж".encode()[:3],
        "shift-jis": "赤い".encode("shift-jis"),
    }  # fmt: skip
    cases = []
    for name, content in [
        *contents.items(),
        *((f"random {i}", draw.randbytes(draw.randrange(1, 80))) for i in range(10)),
    ]:
        file = place.new(f"{name}.txt")
        file.write_bytes(content)
        cases.append(_compare(place, str(file), name))
    folder = place.new("folder.txt")
    folder.mkdir()
    loop = place.new("loop.txt")
    loop.symlink_to(loop)
    return [
        *cases,
        *(_compare(place, text, text[:40]) for text in (str(folder), str(loop), "none.txt", "", ";", " ; ", "\0")),
    ]


def _compare(place: Place, text: str, what: str) -> Case:
    model = f"system.prompt_processor.pretrained_model_name_or_path={place.sd}"
    return Case(
        [
            "compare",
            "--prompts",
            text,
            "--methods",
            "pullback",
            "--dry-run",
            "--out",
            str(place.out),
            model,
            *runs.VOLUME,
        ],
        f"prompts {what}",
    )


def json_mutated(value: Any, draw: random.Random) -> Any:
    """A JSON value with one leaf or block replaced, or one key taken out."""
    odd = [None, -1, 0, "x", [], {}, 1e30, 10**30, True, [[1]], {"a": 1}, "", 0.5]
    if isinstance(value, (dict, list)) and value and draw.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, changed = draw.choice(keys), value.copy()
        if draw.random() < 0.15:
            del changed[key]
        else:
            changed[key] = json_mutated(value[key], draw)
        return changed
    return draw.choice([one for one in odd if one != value])


def models(place: Place, draw: random.Random, seed: int) -> list[Case]:
    files = sorted(file.relative_to(place.sd) for file in place.sd.rglob("*") if file.is_file())
    configs = [file for file in files if file.suffix == ".json"]
    cases = []
    for number in range(90):
        folder = place.new(f"model {number}")
        shutil.copytree(place.sd, folder)
        file = folder / draw.choice(files if number < 45 else configs)
        content = file.read_bytes()
        act = draw.choice(["gone", "empty", "cut", "byte", "folder", "loop", "text"]) if number < 45 else "json"
        if act == "json":
            file.write_text(json.dumps(json_mutated(json.loads(content), draw)))
        elif act in ("cut", "byte", "text", "empty"):
            at = draw.randrange(min(len(content), 400))
            file.write_bytes({
                "cut": content[:at], "byte": content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :],
                "text": b"not this", "empty": b"",
            }[act])  # fmt: skip
        else:
            file.unlink()
            if act == "folder":
                file.mkdir()
            elif act == "loop":
                file.symlink_to(file)
        cases.append(Case(place.words("nerf", sd=folder), f"{file.relative_to(folder)}: {act}"))
    for name in ("", "/", ".", "a/b/c", "~", "\0", "/dev/null", "x" * 400, "owner/none", "[1]", "null", "{a: 1}"):
        key = "system.prompt_processor.pretrained_model_name_or_path"
        cases.append(Case(place.words("nerf", f"{key}={name}"), f"model {name[:40]!r}"))
        cases.append(Case(place.words("nerf", f"system.guidance.vae={name}"), f"vae {name[:40]!r}"))
    return cases


def tree_mutated(value: Any, draw: random.Random) -> Any:
    """A checkpoint with one thing in it replaced."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, changed = draw.choice(list(value)), dict(value)
        if draw.random() < 0.2:
            del changed[key]
        else:
            changed[key] = tree_mutated(value[key], draw)
        return changed
    if isinstance(value, (list, tuple)) and value and draw.random() < 0.9:
        place, changed = draw.randrange(len(value)), list(value)
        changed[place] = tree_mutated(value[place], draw)
        return type(value)(changed)
    if isinstance(value, torch.Tensor) and draw.random() < 0.7:
        return draw.choice([
            value[None], value.flatten()[:1], value.to(torch.int64), value.to(torch.complex64), torch.zeros(0),
            torch.full_like(value.double(), float("nan")), value.double(),
        ])  # fmt: skip
    return draw.choice([None, -1, "x", [], {}, torch.zeros(2), 1e30, True, (1, 2), 10**30])


def checkpoints(place: Place, draw: random.Random, seed: int) -> list[Case]:
    top = runs.folder(place.trained)
    valid, content = (top / "ckpts" / "last.ckpt"), torch.load(top / "ckpts" / "last.ckpt", weights_only=True)
    whole = valid.read_bytes()
    cases = []
    for number in range(90):
        file = place.new(f"checkpoint {number}.ckpt")
        if number < 30:
            at = draw.randrange(len(whole))
            file.write_bytes(draw.choice([
                whole[:at], whole[:at] + b"\0" * 64 + whole[at + 64 :],
                whole[:at] + draw.randbytes(8) + whole[at + 8 :],
                draw.randbytes(200), b"", whole[at:], b"PK\3\4" + draw.randbytes(100),
                json.dumps({"state_dict": {}}).encode(),
            ]))  # fmt: skip
        else:
            torch.save(tree_mutated(content, draw), file)
        word = draw.choice(
            [f"resume={file}", f"resume={file}", f"system.weights={file}", f"system.geometry.weights={file}:geometry"]
        )
        words = place.words("nerf", word)
        if word.startswith("resume"):
            words[words.index("--train")] = draw.choice(["--train", "--train", "--test", "--validate", "--export"])
            words.remove("trainer.max_steps=1")
            words.append("trainer.max_steps=3")
        cases.append(Case(words, f"{word.partition('=')[0]}: checkpoint {number}"))
    return cases


def meshes(place: Place, draw: random.Random, seed: int) -> list[Case]:
    """Nothing reads a mesh: whole and damaged ones in the place of what is read."""
    corners, faces = np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2], [0, 2, 3]])
    places = [
        "resume={}", "system.weights={}", "system.geometry.weights={}:geometry", "--config {}", "--prompts {}",
        "system.geometry.shape_init=mesh:{}", "system.geometry_convert_from={}", "report {}", "vae={}", "model={}",
    ]  # fmt: skip
    cases = []
    for number in range(40):
        file = place.new(f"mesh {number}.{draw.choice(['glb', 'obj', 'ply'])}")
        mesh_files.save(str(file), mesh_files.MeshData(corners, faces))
        if number % 4:
            file.write_bytes(mutated(file.read_bytes(), draw))
        word = places[number % len(places)].format(file)
        state = "damaged" if number % 4 else "whole"
        what = f"{places[number % len(places)].format('a mesh')}, {file.suffix[1:]}, {state}"
        if word.startswith("--config"):
            words = place.words("nerf")
            words[words.index("--config") + 1] = str(file)
            cases.append(Case(words, what))
        elif word.startswith("--prompts"):
            cases.append(_compare(place, str(file), what))
        elif word.startswith("report"):
            cases.append(Case(["report", str(file)], what))
        else:
            word = word.replace("vae=", "system.guidance.vae=")
            word = word.replace("model=", "system.prompt_processor.pretrained_model_name_or_path=")
            cases.append(Case(place.words("nerf", word), what))
    return cases


def saved_results(place: Place, draw: random.Random, seed: int) -> list[Case]:
    cases = []
    example = place.new("comparison")
    report_example.write(example, methods=2, seeds=2)
    valid = json.loads((example / "compare.json").read_text())
    for number in range(40):
        folder = place.new(f"comparison {number}")
        shutil.copytree(example, folder)
        text = json.dumps(json_mutated(valid, draw)).encode()
        (folder / "compare.json").write_bytes(text if number % 4 else mutated(text, draw))
        cases.append(Case(["report", str(folder)], f"compare.json {number}"))
    worlds = json.loads((runs.ROOT / "docs" / "results" / "worlds" / "worlds.json").read_text())
    name = "shapes"
    label = next(iter(worlds["settings"][name]))
    worlds["rows"] = [row for row in worlds["rows"] if (row["world"], row["method"]) == (name, label)]
    worlds["settings"] = {name: {label: worlds["settings"][name][label]}}
    seeds = ",".join(str(row["seed"]) for row in worlds["rows"][:4])
    worlds["rows"] = worlds["rows"][:4]
    for number in range(24):
        folder = place.new(f"worlds {number}")
        folder.mkdir()
        text = json.dumps(json_mutated(worlds, draw)).encode()
        (folder / "worlds.json").write_bytes(text if number % 4 else mutated(text, draw))
        words = ["evaluate", "worlds", "--world", name, "--method", label, "--seeds", seeds, "--workers", "1"]
        cases.append(Case([*words, "--out", str(folder)], f"worlds.json {number}"))
    return cases


def options(place: Place, draw: random.Random, seed: int) -> list[Case]:
    lines = odd.OPTIONS
    return [Case([*_split(line), *_out(line, place)], line) for line in lines]


def _split(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


def _out(line: str, place: Place) -> list[str]:
    """--out, for commands that would write to the working folder."""
    begins = line.startswith(("demo", "compare", "evaluate ")) and "--out" not in line
    return ["--out", str(place.out)] if begins else []
