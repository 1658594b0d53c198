"""Errors shown to a person: the reason as the last line, and no more than ten lines."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from monai_constraints.engines.run_folder import TRACEBACK, held_folders

__all__ = ["reason", "show", "show_refusals"]

MAX_LINES = 10
PACKAGE = str(Path(__file__).resolve().parents[1])
WRAPPERS = ("Failed to evaluate ", "Failed to instantiate ", "applying transform ")  # MONAI's, around what happened
OURS = re.compile(r"[A-Za-z_][\w.]*: ")
DEBUG = "MONAI_CONSTRAINTS_DEBUG"


def reason(error: BaseException) -> str:
    """What is to be said of the error, in at most ten lines of which the last says what was wrong or what to do.

    What MONAI wrapped around it is taken off. An error that this package raises speaks for itself; of another one the
    kind is said, and where it came from. Ctrl-C says what is saved.
    """
    if isinstance(error, KeyboardInterrupt):
        saved = [f"{folder}/checkpoint.pt" for folder in held_folders() if (Path(folder) / "checkpoint.pt").is_file()]
        go_on = "has the last whole epoch, from which --resume True goes on"
        return f"Interrupted: {saved[0]} {go_on}" if saved else "Interrupted: nothing is saved"
    cause = _cause(error)
    text = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
    if is_refusal(cause):
        return _shortened(text)
    frames = traceback.extract_tb(cause.__traceback__)
    where = [f"in {frames[-1].filename}, line {frames[-1].lineno}"] if frames else []
    around = [str(error).split("\n")[0][:300]] if cause is not error else []
    return "\n".join([*around, *where, _shortened(f"{type(cause).__name__}: {text}", MAX_LINES - 4)])


def is_refusal(error: BaseException) -> bool:
    """Whether this package raised the error, with its own words."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and os.path.realpath(frames[-1].filename).startswith(PACKAGE)
    return ours and OURS.match(str(error.args[0]) if error.args else "") is not None


def show_refusals(*, debug: bool = False) -> None:
    """Let this process show uncaught errors by their reason, and take the same text out of the logs of engines.

    Nothing changes with `debug`, with MONAI_CONSTRAINTS_DEBUG=1 in the environment, or where another program shows
    errors in its own way.
    """
    if debug or os.environ.get(DEBUG, "0") not in ("", "0"):
        return
    for name in ("ignite.engine.engine.SupervisedTrainer", "ignite.engine.engine.SupervisedEvaluator", "StatsHandler"):
        logger = logging.getLogger(name)
        if _speaks_of_errors not in logger.filters:
            logger.addFilter(_speaks_of_errors)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show


def show(error: BaseException, *, hint: str) -> None:
    """Write the reason as the last lines of this process.

    The traceback of what nobody foresaw is kept as `traceback.txt` in the folder of the training, or had as the hint
    says.
    """
    lines = []
    if not isinstance(error, KeyboardInterrupt) and not is_refusal(_cause(error)):
        lines = [hint]
        for folder in held_folders():
            with suppress(OSError):
                path = Path(folder) / TRACEBACK
                path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
                lines = [f"the traceback is in {path}"]
    sys.stdout.flush()
    sys.stderr.write("\n".join([*lines, reason(error), ""]))


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    show(error, hint=f"{DEBUG}=1 in the environment shows the traceback")


def _cause(error: BaseException) -> BaseException:
    """What happened, without what MONAI put around it."""
    while error.__cause__ is not None and isinstance(error, RuntimeError) and str(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def _speaks_of_errors(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    return "is terminating due to exception" not in text and not text.startswith("Exception: ")


def _shortened(text: str, limit: int = MAX_LINES) -> str:
    lines = text.strip().split("\n")
    if len(lines) > limit:
        lines = [*lines[: limit - 2], f"... {len(lines) - limit + 1} more lines", lines[-1]]
    return "\n".join(lines)
