"""The campaign against faults that no test has thought of; it takes an hour or two and is no part of CI.

    python tools/campaign.py kills disks input numbers long     # any of these parts; all by default
    python tools/campaign.py threestudio --root ~/threestudio   # with a Python that has threestudio's packages
    python tools/campaign.py report                             # docs/results/reliability.md again

Every case is a row of docs/results/reliability.json: a part that is interrupted goes on; rows that are there are not
made again. Cases follow from --seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "custom" / "threestudio-pullback"), str(ROOT / "tests")]

from campaign import report  # noqa: E402
from campaign.results import PARTS, open_results  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "report"], default=[], help="which; all but threestudio")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "reliability.json")
    parser.add_argument("--work", type=Path, help="a folder for what the runs write; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name holds this text, or one of several: a,b")
    parser.add_argument("--root", type=Path, help="a checkout of threestudio")
    args = parser.parse_args()
    for name in args.parts or [part for part in PARTS if part != "threestudio"]:
        if name != "report":
            results = open_results(args.out, name)
            __import__(f"campaign.{name}", fromlist=["run"]).run(results, args)
        report.write(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
