"""Bundles as their users run them: commands that are killed and resumed, and several processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from bundle_data import BUNDLES, make_acdc, read_csv
from torch.nn.parallel import DistributedDataParallel

from bundles import Runs, configs, run, settings
from monai_constraints.engines import end_processes

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")

EPOCHS = 16
PATIENCE = 240  # seconds, on a busy machine
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def command(bundle: str, *names: str, launcher: tuple[str, ...] = (), **options: Any) -> list[str]:
    given = settings(bundle, **{"device": None, **options})  # torchrun names the devices
    files = ",".join(f"'{file}'" for file in configs(bundle, *names))
    arguments = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    return [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", f"[{files}]", *arguments]


@contextmanager
def started(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    paths = [str(BUNDLES.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("wb") as file:
        process = subprocess.Popen(
            arguments, stdout=file, stderr=file, env=environment, start_new_session=True, cwd=log.parent
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(PATIENCE) == 0, log.read_text()[-4000:]


def wait_until(condition: Any, process: subprocess.Popen[bytes], log: Path, *, pause: float) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(pause)


def test_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Killed in an epoch, killed again while the checkpoint is written, resumed: not one bit differs."""
    data = make_acdc(tmp_path / "acdc")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    common: dict[str, Any] = {"dataset_dir": data, "max_epochs": EPOCHS}
    logs = [tmp_path / f"{name}.log" for name in ("whole", "first", "second", "third")]
    first = command("acdc_lv", "train", output_dir=broken, **common)
    again = [*first, "--resume", "True"]
    with started(command("acdc_lv", "train", output_dir=whole, **common), logs[0]) as straight:
        with started(first, logs[1]) as process:
            wait_until((broken / "checkpoint.pt").exists, process, logs[1], pause=0.01)
            time.sleep(random.uniform(0, 0.3))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert 1 <= len(read_csv(broken / "metrics.csv")) < EPOCHS and not (broken / "model.pt").exists()
        with started(again, logs[2]) as process:
            new = f".checkpoint.pt.{process.pid}.tmp"
            wait_until(lambda: (broken / new).exists(), process, logs[2], pause=0)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        (broken / ".metrics.csv.1.tmp").touch()  # as if killed there too
        with started(again, logs[3]) as process:
            finish(process, logs[3])
        finish(straight, logs[0])

    expected, found = (torch.load(folder / "model.pt", weights_only=True) for folder in (whole, broken))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [read_csv(folder / "metrics.csv") for folder in (whole, broken)]
    times = ("seconds", "seconds_validation", "data_share")
    numbers = [[{k: v for k, v in row.items() if k not in times} for row in table] for table in rows]
    assert numbers[0] == numbers[1] and len(numbers[0]) == EPOCHS
    assert all("Resume: goes on after epoch" in log.read_text() for log in logs[2:])
    assert not list(broken.glob(".*.tmp"))


@pytest.mark.parametrize("bundle", ["acdc_lv", "two_circles"])
def test_two_processes(bundle: str, runs: Runs, tmp_path: Path) -> None:
    """Training and evaluation on two processes, whose numbers are those of one process with the same network."""
    out, log = tmp_path / "out", tmp_path / "log"
    given: dict[str, Any] = {"output_dir": str(out), "max_epochs": 2, "learning_rate": 0.05}
    if runs.data(bundle) is not None:
        given["dataset_dir"] = str(runs.data(bundle))
    else:
        given["validate#dataloader#batch_size"] = 1  # four validation batches on one rank, three on the other
    row = ["rows/consistency"] if bundle == "acdc_lv" else []  # the network runs twice in a step
    arguments = command(bundle, "train", *row, "multi_gpu_train", launcher=TWO, **given)
    with started(arguments, log) as process:
        finish(process, log)
    written = {"model.pt", "curves.png", "examples.png", "checkpoint.pt", "patients.csv", "config.yaml"}
    assert written <= {path.name for path in out.iterdir()}
    assert log.read_text().count("INFO epoch 2/2: ") == 1
    run(out / "evaluate.yaml", progress=False)
    arguments = command(bundle, "train", *row, "multi_gpu_train", "evaluate", launcher=TWO, **given,
                        evaluation_dir=str(out / "two"))  # fmt: skip
    with started(arguments, log) as process:
        finish(process, log)
    one, two = (sorted(map(str, read_csv(out / name / "patients.csv"))) for name in ("evaluation", "two"))
    assert one == two and len(one) == len(runs.cases(bundle)["validation"])


def test_initial_weights_on_two_processes(runs: Runs, tmp_path: Path) -> None:
    """Two processes whose epoch learns nothing end with the weights that one process left."""
    before, after = runs.trained("two_circles"), tmp_path / "after"
    given: dict[str, Any] = {"output_dir": after, "initial_weights": before / "model.pt", "learning_rate": 0.0}
    arguments = command("two_circles", "train", "multi_gpu_train", launcher=TWO, **given)
    with started(arguments, tmp_path / "log") as process:
        finish(process, tmp_path / "log")
    expected, found = (torch.load(folder / "model.pt", weights_only=True) for folder in (before, after))
    names = [name for name in expected if name.endswith((".weight", ".bias"))]  # batch norm's statistics move
    assert names and found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in names)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of threads")
def test_the_end_leaves_no_thread_of_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that frees a tensor while the interpreter ends aborts the process, at times."""

    def threads() -> set[str]:
        found = set()
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # one that ends meanwhile
                if "gloo" in (task / "comm").read_text():
                    found.add(task.name)
        return found

    world = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))
    before = threads()
    idist.initialize("gloo")
    network = DistributedDataParallel(torch.nn.Linear(2, 2))
    network(torch.ones(1, 2)).sum().backward()
    assert threads() - before
    end_processes(network)
    end = time.monotonic() + 10  # the kernel lists a joined thread for a moment
    while threads() - before and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads() - before and idist.backend() is None
    assert network.module(torch.ones(1, 2)).shape == (1, 2)
    end_processes(network)
