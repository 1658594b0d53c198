"""Do what is missing of a plan, some runs side by side, and leave nothing running behind."""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_constraints.files import replacing
from reproduce.plan import Run, changed_keys, read_record
from reproduce.provenance import cores

__all__ = ["locked", "run_all"]

logger = logging.getLogger(__name__)

PAUSE = 0.5  # seconds between two looks at the processes
QUIET = 60.0  # seconds between two lines of progress where it goes to a file
GRACE = 10.0  # seconds that a stopped run has before it is killed


@dataclass
class _Running:
    run: Run
    slot: int
    process: subprocess.Popen[bytes]
    record: dict[str, Any]
    began: float = field(default_factory=time.time)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, or say that somebody else does. A killed holder holds nothing any more.

    Raises:
        BlockingIOError: another runner has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(f"table: another runner works in {folder}; wait for it, or choose another") from error
        yield


def run_all(
    plan: Sequence[Run],
    *,
    workers: int = 1,
    gpus: Sequence[str] = (),
    redo: bool = False,
    provenance: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
    after_each: Callable[[], object] = lambda: None,
) -> bool:
    """Run whatever of `plan` is not done, and say whether all of it is done now.

    A run that was started before goes on from its checkpoint. One that fails does not stop the others. Whatever ends
    this function, an interrupt or a termination signal included, stops the runs with it.

    Args:
        plan: from `make_plan`.
        workers: runs side by side; each gets its part of the cores.
        gpus: ids that the workers take in turn, through CUDA_VISIBLE_DEVICES.
        redo: train runs of another configuration again, from the start, instead of refusing.
        provenance: what goes into every `run.json`.
        extra: the options that the user gave on the command line, for the record.
        after_each: called when a run has ended.

    Raises:
        ValueError: there are runs of another configuration in the folder, and not `redo`.
    """
    _refuse_changed(plan, redo)
    waiting = deque(run for run in plan if read_record(run).get("status") != "done")
    running: list[_Running] = []
    told = 0.0
    free = deque(range(workers))
    tqdm.monitor_interval = 0  # its thread would be one too many to fork beside
    total = sum(run.epochs for run in plan)
    bar = tqdm(total=total, unit="epoch", smoothing=0, initial=_done(plan), dynamic_ncols=True)
    with bar, _termination() as told_to_end:
        try:
            while waiting or running:
                if told_to_end:
                    raise SystemExit(128 + told_to_end[0])
                while waiting and free:
                    base = {**(provenance or {}), "extra": dict(extra or {})}
                    running.append(_start(waiting.popleft(), free.popleft(), workers, gpus, base))
                time.sleep(PAUSE)
                ended = [one for one in running if one.process.poll() is not None]
                for one in ended:
                    running.remove(one)
                    free.append(one.slot)
                    _finish(one)
                    if one.record["status"] == "failed":
                        bar.total -= one.run.epochs - _epochs(one.run)
                        bar.write(f"{one.run.name} failed; see {one.run.folder / 'log.txt'}", file=sys.stderr)
                bar.n = _done(plan)
                now = ", ".join(f"{one.run.name} {_epochs(one.run)}/{one.run.epochs}" for one in running)
                bar.set_description_str(now, refresh=False)
                if ended or sys.stderr.isatty() or time.monotonic() > told + QUIET:
                    bar.refresh()
                    told = time.monotonic()
                if ended:
                    try:
                        after_each()
                    except Exception:  # whatever it is, it must not end the trainings
                        logger.exception("table: the report could not be written")
        finally:
            _stop(running)
    return all(read_record(run).get("status") == "done" for run in plan)


def _refuse_changed(plan: Sequence[Run], redo: bool) -> None:
    changed = {run.name: (run, keys) for run in plan if (keys := changed_keys(run))}
    if changed and not redo:
        lines = "\n".join(f"  {name}: {', '.join(keys)}" for name, (_, keys) in changed.items())
        raise ValueError(
            f"table: the folder holds runs of another configuration, which differ in\n{lines}\n"
            "choose another --out, give the options they had, or train them again with --redo"
        )
    for run, _ in changed.values():
        shutil.rmtree(run.folder)


def _start(run: Run, slot: int, workers: int, gpus: Sequence[str], base: Mapping[str, Any]) -> _Running:
    run.folder.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "monai.bundle", "run", *run.arguments]
    if (run.folder / "checkpoint.pt").is_file():
        arguments += ["--resume", "True"]
    environment = {"OMP_NUM_THREADS": str(max(1, cores() // workers)), **os.environ}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    threads = environment["OMP_NUM_THREADS"]
    record = {"status": "running", "command": run.command, "start": _now(), "threads": threads, **base}
    record |= {"config": run.config, "directory": os.getcwd()}
    _write(run, record)
    parent = os.getpid()
    with open(run.folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            preexec_fn=(lambda: _die_with(parent)) if sys.platform == "linux" else None,
        )  # fmt: skip
    return _Running(run, slot, process, record)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with(parent: int) -> None:
    """In the child: be killed when the runner is, however it dies."""
    assert _LIBC is not None
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _finish(one: _Running, status: str = "") -> None:
    code = one.process.returncode
    complete = code == 0 and _epochs(one.run) > 0
    one.record |= {"status": status or ("done" if complete else "failed"), "exit": code, "end": _now()}
    one.record["seconds"] = round(time.time() - one.began, 1)
    _write(one.run, one.record)


def _stop(running: Sequence[_Running]) -> None:
    """End the process groups of all runs, the stubborn ones by force."""
    for one in running:
        _signal(one, signal.SIGTERM)
    end = time.monotonic() + GRACE
    for one in running:
        try:
            one.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(one, signal.SIGKILL)
            one.process.wait()
        _signal(one, signal.SIGKILL)  # children that outlived their leader
        _finish(one, "" if one.process.returncode == 0 else "interrupted")


def _signal(one: _Running, number: int) -> None:
    try:
        os.killpg(one.process.pid, number)
    except ProcessLookupError:
        pass


@contextmanager
def _termination() -> Iterator[list[int]]:
    """The numbers of the signals that have come in to end this process, which now only fill that list."""
    told: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: told.append(number)) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _done(plan: Sequence[Run]) -> int:
    return sum(_epochs(run) for run in plan)


def _epochs(run: Run) -> int:
    """The epochs in its metrics.csv, a line each below the heading."""
    try:
        return max(0, (run.folder / "metrics.csv").read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _write(run: Run, record: Mapping[str, Any]) -> None:
    with replacing(run.folder / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
