"""The bundled host's `python launch.py --config … --train|--validate|--test|--export key=value …`."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence

from ..errors import first_line
from .actions import to_look_at
from .explain import explain
from .quiet import hold, release
from .run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit status: 0 done; 1 the run failed, by a NaN or by a fault of the program, which shows its traceback;
        2 the user can mend it, and one line on stderr says how; 130 and 143 stopped by Ctrl-C and SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in argv
    run = Run(argv)
    if not verbose:
        hold()
    try:
        if status := run():
            return status
        if run.io is not None and (lines := to_look_at(run.cfg.trial_dir)):  # where its processes had no say
            print(lines, flush=True)
        return 0
    except SystemExit as e:
        if e.code:  # of a handler of signals, such as a scheduler's, which ends the process
            raise
        return 0  # argparse's --help
    except BaseException as e:
        reason = explain(e, run.blocks)
        sentence, status = reason or (f"{type(e).__name__}: {first_line(e)}", 1)
        tells = True
        if run.together is not None:
            tells, status = run.together.tells(status)
        release(said=status != 2)
        if tells and (verbose or reason is None):
            traceback.print_exc()
        if tells and (isinstance(e, Exception) or not run.resume_line()):
            print("error: " + re.sub(r"\s+", " ", sentence), file=sys.stderr)
        if status == 2:
            run.leave_nothing()
        elif run.resume_line():
            print(f"The last whole step is saved; to go on from there:\n  {run.resume_line()}")
        return status
    finally:
        release()
