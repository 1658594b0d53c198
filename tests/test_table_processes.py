"""A whole table as its users run it: the command, killed twice, resumed, with a row that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_data import BUNDLES, make_acdc, read_csv
from test_tables import PICTURES, contents, write

from bundles import TABLE
from monai_constraints.engines import fast_bfloat16
from reproduce import table as command
from reproduce.runner import locked

EPOCHS = 32  # on two idle cores 16 were over before the signal came, once
PATIENCE = 240  # seconds, on a busy machine


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    paths = [str(BUNDLES.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "reproduce.table", *words]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=log.parent)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.02)


def children(folder: Path) -> list[int]:
    """The processes that write below the folder, by their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "monai.bundle" in words and folder.name in words:
            found.append(int(path.parent.name))
    return found


def gone(folder: Path) -> bool:
    end = time.monotonic() + 20
    while children(folder) and time.monotonic() < end:
        time.sleep(0.1)
    return not children(folder)


def epochs(run: Path) -> int:
    return len(read_csv(run / "metrics.csv")) if (run / "metrics.csv").is_file() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_table_is_killed_and_resumed_and_shows_a_row_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acdc, log = make_acdc(tmp_path / "acdc"), tmp_path / "log"
    out = tmp_path / f"out{os.getpid()}"
    data = contents(
        protocols={
            "mini": {"note": "Miniature.", "seeds": [0], "options": {**TABLE["acdc_lv"].tiny, "max_epochs": EPOCHS}},
        },
        rows=[
            {"name": "individual", "label": "Individual", "published": {"dice_2d": 0.8708}},
            {"name": "broken", "options": {"size_rule#relative": -1}},
            {"name": "later", "pending": "another issue", "published": {"dice_2d": 0.5}},
            {"name": "full", "label": "Full", "overlays": ["rows/full"], "published": {"dice_2d": 0.8872}},
        ],
    )
    table = write(tmp_path / "t.yaml", data)
    runs = {name: out / "runs" / name / "seed0" for name in ("individual", "broken", "full")}
    words = [str(table), "--out", str(out), "--workers", "2"]
    end = ["--", "--dataset_dir", str(acdc), "--learning_rate", "0.01"]

    # Killed without a chance to tidy up, in the middle of two runs: they die with it.
    first = start([*words, "--rows", "individual", "--seeds", "0,1", *end], log)
    wait_until(lambda: epochs(runs["individual"]) >= 2, first, log)
    first.kill()
    assert first.wait() == -signal.SIGKILL and gone(out), children(out)
    assert 2 <= epochs(runs["individual"]) < EPOCHS and status(runs["individual"]) == "running"

    # Asked to end while the last row goes on: it stops that and leaves nothing behind.
    stopper = threading.Thread(target=terminate_when, args=(lambda: epochs(runs["full"]) >= 1,))
    stopper.start()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as left:
        command.main([*words, *end])
    stopper.join()
    assert left.value.code == 128 + signal.SIGTERM and gone(out), children(out)
    assert status(runs["full"]) == "interrupted" and status(runs["broken"]) == "failed"
    assert "Resume: goes on after epoch" in (runs["individual"] / "log.txt").read_text()
    done = {run: (run / "model.pt").stat().st_mtime_ns for run in runs.values() if status(run) == "done"}

    # Whatever is left, a row at a time as a user might; what is done is not touched.
    assert command.main([*words, "--rows", "full", *end]) == 0
    assert command.main([*words, "--rows", "individual", "--seeds", "0,1", *end]) == 0
    assert all((run / "model.pt").stat().st_mtime_ns == when for run, when in done.items())
    assert "100%" in capsys.readouterr().err
    with locked(out):
        assert command.main([*words, *end]) == 2

    text = (out / "table.md").read_text(encoding="utf-8")
    rows = {row["row"]: row for row in read_csv(out / "table.csv")}
    assert [row["runs"] for row in rows.values()] == ["2", "0", "0", "1"]
    finals = [read_csv(out / "runs" / "individual" / f"seed{seed}" / "metrics.csv") for seed in (0, 1)]
    assert [len(table) for table in finals] == [EPOCHS, EPOCHS]
    dices = [float(table[-1]["val_dice"]) for table in finals]
    assert float(rows["individual"]["dice_2d"]) == pytest.approx(sum(dices) / 2, rel=1e-4)
    assert float(rows["individual"]["dice_2d_sd"]) == pytest.approx(abs(dices[0] - dices[1]) / 2**0.5, abs=1e-5)
    assert "| seed 0: failed; seed 1: not run yet |" in text and "| pending: another issue " in text
    assert "Individual: margins must be >= 0" in text.split("## broken: failed")[1]
    assert {path.name for path in out.iterdir() if path.suffix == ".png"} == PICTURES
    record = json.loads((runs["full"] / "run.json").read_text())
    assert record["status"] == "done" and record["machine"]["cores"] >= 1 and "torch" in record["versions"]
    precision = "bfloat16" if fast_bfloat16("cpu") else "float32"
    assert record["machine"]["gpus"] or f"no GPU, {precision}; python" in text
    assert f"on the command line: `--dataset_dir {acdc} --learning_rate 0.01`" in text
    assert record["command"] in text and f"--dataset_dir {acdc}" in record["command"]


def status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["status"])


def terminate_when(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
