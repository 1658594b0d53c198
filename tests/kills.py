"""Trainings that are killed at random moments and resumed, as a table: is it to a bit what an unbroken one leaves?

    python tests/kills.py [COUNT [SEED]]        how many are killed, 100 by default

Exit code 1 if a resumed training differs. One process imports MONAI, which takes ten seconds, and forks the trainings.
Half of them are killed at a time drawn from the whole run, half at a drawn change to a file of the run or shortly after
it, a tenth on two processes of which one is killed. Compared are every weight of the network and the checkpoint, every
number but for the seconds, and the names of all files. `test_kills.py` runs a few.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a training imports late, each child would import again.
import contourpy  # noqa: F401
import edt  # noqa: F401
import numpy as np
import torch
import torch._dynamo  # noqa: F401
from bundle_data import read_csv
from matplotlib import pyplot

from bundles import TABLE, WRITTEN, configs
from monai_constraints.engines import start
from monai_constraints.pictures import curves, examples  # noqa: F401

BUNDLE = "two_circles"
EPOCHS = 4
OPTIONS: dict[str, Any] = {
    "bundle_root": str(Path(configs(BUNDLE, "train")[0]).parents[1]), **TABLE[BUNDLE].tiny, "max_epochs": EPOCHS,
    "progress": False, "device": "cpu", "batch_size": 3,
}  # fmt: skip
TIMES = ("seconds", "seconds_validation", "data_share")
PATIENCE = 1800.0  # seconds that a training may take on a busy machine
DELAYS = (0.0, 0.003, 0.02, 0.2)  # the longest time from a change to a file until the kill
ABOUT = "about to write"


@dataclass
class Kill:
    """One training that is killed: when, and what came of it."""

    processes: int
    event: int | None = None  # kill at this change to a file; None: after `seconds`
    seconds: float = 0.0  # since the start, or since the change
    victim: int = 0  # the rank that is killed
    during: str = ""  # what was written
    fault: str = ""  # empty: bit-identical


class Changes:
    """Tells the parent of each change to a file of the run, by a line through a pipe."""

    def __init__(self, folder: Path, pipe: int) -> None:
        self.folder, self.pipe = str(folder), pipe

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.scandir"):
            path = arguments[1] if event == "os.rename" else arguments[0]
        else:
            return
        path = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        if path.startswith(self.folder):  # `replacing` looks for what others left before it writes, with torch in C++
            name = ABOUT if event == "os.scandir" else f"{event.removeprefix('os.')} {final_name(Path(path).name)}"
            os.write(self.pipe, f"{name}\n".encode())


def final_name(name: str) -> str:
    """checkpoint.pt of .checkpoint.pt.123.tmp; all that TensorBoard writes has one name."""
    if name.startswith("events.out"):
        return "tensorboard"
    return ".".join(name.split(".")[1:-2]) if name.startswith(".") and name.endswith(".tmp") else name


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Training:
    """The processes of one training, forked from this one, which has imported everything and run nothing."""

    def __init__(self, out: Path, processes: int, *, resume: bool = False) -> None:
        self.out, self.changes, self.begun = out, list[str](), time.monotonic()
        self.log = out.with_suffix(".log")
        self.reader, writer = os.pipe()
        port = free_port() if processes > 1 else 0
        self.pids = []
        for rank in range(processes):
            pid = os.fork()
            if pid == 0:
                self._train(rank, processes, port, writer, resume)
            self.pids.append(pid)
        os.close(writer)

    def _train(self, rank: int, processes: int, port: int, writer: int, resume: bool) -> None:
        code = 70
        try:
            os.setpgid(0, 0)
            os.close(self.reader)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self.out.parent)
            names = ["train"]
            if processes > 1:
                names.append("multi_gpu_train")
                given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
                os.environ.update({name: str(value) for name, value in given.items()}, MASTER_PORT=str(port))
            sys.addaudithook(Changes(self.out, writer))
            options = {**OPTIONS, "output_dir": str(self.out), "resume": resume}
            if processes > 1:
                del options["device"]
            code = start(configs(BUNDLE, *names), options)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def follow(self, until: float, event: int | None = None) -> bool:
        """Read changes up to a time, or up to one of them; False where the training ended before."""
        while event is None or len(self.changes) <= event:
            left = until - time.monotonic()
            if left <= 0:
                return True
            if select.select([self.reader], [], [], left)[0]:
                text = os.read(self.reader, 65536).decode()
                if not text:
                    return False
                self.changes += text.splitlines()
        return True

    def kill(self, rank: int) -> None:
        """SIGKILL for one, and then, as torchrun does, for the others."""
        os.kill(self.pids[rank], signal.SIGKILL)
        if len(self.pids) > 1:
            time.sleep(random.uniform(0, 0.5))
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> list[int]:
        """The exit codes; the processes are gone."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        os.close(self.reader)
        return codes


def finish(out: Path, processes: int, *, resume: bool = False) -> tuple[list[str], float]:
    """Train to the end: the changes to files, and the seconds.

    Raises:
        RuntimeError: where it did not end well, with the end of its log.
    """
    training = Training(out, processes, resume=resume)
    if training.follow(training.begun + PATIENCE):
        training.kill(0)
    codes = training.end()
    if any(codes):
        raise RuntimeError(f"exit codes {codes}: {training.log.read_text(encoding='utf-8')[-600:]}")
    return training.changes, time.monotonic() - training.begun


def writing(out: Path) -> str:
    """What was being written, from the temporary files that lie there, or else the part of the training."""
    stray = sorted(final_name(path.name) for path in out.glob(".*.tmp"))
    if stray:
        return f"{stray[0]}, half written"
    if (out / "model.pt").is_file():
        return "after model.pt: pictures, tables"
    if (out / "checkpoint.pt").is_file():
        return "in a later epoch"
    return "in the first epoch" if (out / "inference.yaml").is_file() else "before the first epoch"


def kill(out: Path, one: Kill) -> bool:
    """Kill a training as `one` says, and note in it what was written; False where it had come to its end before."""
    training = Training(out, one.processes)
    alive = training.follow(training.begun + (PATIENCE if one.event is not None else one.seconds), one.event)
    if alive and one.event is not None:
        time.sleep(one.seconds)
    training.kill(one.victim)
    if -signal.SIGKILL not in training.end():
        return False
    one.during = writing(out)
    return True


def contents(out: Path) -> dict[str, Any]:
    """What a training left: names of files, weights, states, numbers."""
    found: dict[str, Any] = {"files": sorted(path.name for path in out.iterdir())}
    found["model.pt"] = torch.load(out / "model.pt", weights_only=True)
    found["checkpoint.pt"] = torch.load(out / "checkpoint.pt", weights_only=True)
    rows = read_csv(out / "metrics.csv")
    found["metrics.csv"] = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    found["patients.csv"] = read_csv(out / "patients.csv")
    with np.load(out / "predictions.npz") as file:
        found["predictions.npz"] = {name: file[name] for name in file.files}
    for name in ("examples.png", "curves.png"):
        found[name] = (out / name).read_bytes()[:4] == b"\x89PNG"
    return found


def difference(one: Any, other: Any, where: str = "") -> str:
    """Where two contents differ first; empty: nowhere."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if list(one) != list(other):
            return f"{where}: {sorted(map(str, set(one) ^ set(other)))} is in one of them"
        return next(filter(None, (difference(one[name], other[name], f"{where}/{name}") for name in one)), "")
    if isinstance(one, (torch.Tensor, np.ndarray)):
        same = type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
        return "" if same and bool((one == other).all()) else f"{where}: other values"
    return "" if one == other else f"{where}: {str(one)[:200]}, not {str(other)[:200]}"


def drawn(number: int, dice: random.Random, wholes: Mapping[int, tuple[list[str], float]]) -> Kill:
    """When this one is killed: at a time, or at a change to a file; and on how many processes."""
    processes = 2 if number % 10 == 9 and 2 in wholes else 1
    changes, seconds = wholes[processes]
    one = Kill(processes, victim=dice.randrange(processes))
    if number % 2:
        # Each file as often as others, however often it is replaced.
        name = dice.choice([ABOUT, dice.choice(sorted(set(changes)))])
        one.event = dice.choice([place for place, change in enumerate(changes) if change == name])
        one.seconds = dice.uniform(0, dice.choice(DELAYS))
    else:
        one.seconds = dice.uniform(0, seconds)
    return one


def run(count: int, seed: int = 0, *, two: bool = True) -> Iterator[Kill]:
    """Kill so many trainings and resume them; two: some of them on two processes."""
    done, dice = 0, random.Random(seed)
    pyplot.figure().savefig(io.BytesIO())  # finds the fonts
    with tempfile.TemporaryDirectory() as folder:
        wholes, expected = {}, {}
        for processes in (1, 2) if two else (1,):
            out = Path(folder) / f"whole{processes}"
            wholes[processes] = finish(out, processes)
            expected[processes] = contents(out)
            assert set(expected[processes]["files"]) == WRITTEN
        while done < count:
            one, out = drawn(done, dice, wholes), Path(folder) / f"run{done}"
            try:
                if not kill(out, one):
                    shutil.rmtree(out)
                    continue
                finish(out, one.processes, resume=True)
                one.fault = difference(contents(out), expected[one.processes])
            except (RuntimeError, OSError) as error:
                one.fault = str(error)
            done += 1
            shutil.rmtree(out, ignore_errors=True)
            yield one


def table(results: list[Kill]) -> str:
    """How many were killed and came back, by what was written."""
    lines = ["| killed | processes | trainings | bit-identical |", "| --- | --- | --- | --- |"]
    groups = Counter((one.during, one.processes) for one in results)
    for (during, processes), count in sorted(groups.items()):
        good = sum(not one.fault for one in results if (one.during, one.processes) == (during, processes))
        lines.append(f"| {during} | {processes} | {count} | {good} |")
    good = sum(not one.fault for one in results)
    return "\n".join([*lines, f"| all | | {len(results)} | {good} |", ""])


def main(arguments: list[str]) -> int:
    count, seed = (int(text) for text in [*arguments, *("100", "0")[len(arguments) :]])
    begun, results = time.monotonic(), list[Kill]()
    with contextlib.suppress(KeyboardInterrupt):  # the table of those that there are
        for one in run(count, seed, two=count >= 10):
            results.append(one)
            sys.stdout.write(f"{len(results)} of {count}: {json.dumps(vars(one))}\n")
            sys.stdout.flush()
    sys.stdout.write(table(results))
    sys.stdout.write(f"{time.monotonic() - begun:.0f} seconds\n")
    return int(len(results) < count or any(one.fault for one in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
