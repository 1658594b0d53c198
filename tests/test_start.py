"""A run as a person starts it: what is refused, what is kept, and what the last line says."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_data import BUNDLES, make_acdc, read_csv

from monai_constraints.engines import start
from monai_constraints.engines.refusal import reason

CONFIGS = BUNDLES / "acdc_lv" / "configs"
TINY: dict[str, Any] = {
    "bundle_root": str(BUNDLES / "acdc_lv"), "padded_size": [48, 48], "spatial_size": [32, 32],
    "trunk#features": [4, 4, 8, 8, 8, 4], "max_epochs": 2, "val_interval": 1, "progress": False, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def acdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_acdc(tmp_path_factory.mktemp("acdc"))


@pytest.fixture(scope="module")
def finished(acdc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    assert start([CONFIGS / "train.yaml"], {**TINY, "dataset_dir": str(acdc), "output_dir": str(out)}) == 0
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The folder of a finished training, to be harmed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


class Outcome:
    """Exit code and last words of a start in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *overlays: Path, **options: Any) -> tuple[int, str]:
        self.capsys.readouterr()
        code = start([CONFIGS / "train.yaml", *overlays], {**TINY, **options})
        said = self.capsys.readouterr().err.strip()
        assert "Traceback" not in said and len(said.splitlines()) <= 10
        return code, said


@pytest.fixture
def outcome(capsys: pytest.CaptureFixture[str]) -> Outcome:
    return Outcome(capsys)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(out: Path, acdc: Path, **options: Any) -> list[str]:
    given = {**TINY, "dataset_dir": acdc, "output_dir": out, **options}
    arguments = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / "train.yaml"), *arguments]


def begin(arguments: list[str], **given: Any) -> subprocess.Popen[str]:
    paths = [str(BUNDLES.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Tests that a shell has put into the background ignore Ctrl-C, and would hand that on.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heard, **given
    )


# ---- 1: earlier results --------------------------------------------------------------------------------------------


def test_a_finished_folder_is_refused_as_it_is(finished: Path, acdc: Path, outcome: Outcome) -> None:
    before = content(finished)
    code, said = outcome(dataset_dir=str(acdc), output_dir=str(finished))
    assert code == 1 and said.startswith(f"take_folder: {finished} holds a finished training (model.pt); --resume True")
    code, said = outcome(dataset_dir=str(acdc), output_dir=str(finished), resume=True, restart=True)
    assert code == 1 and "choose one" in said
    assert content(finished) == before


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "of another network"])
def test_a_refused_checkpoint_leaves_the_weights(damage: str, copy: Path, acdc: Path, outcome: Outcome) -> None:
    path = copy / "checkpoint.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "text":
        path.write_text("hello")
    else:
        state = torch.load(path, weights_only=True)
        torch.save({"net": 1} if damage == "foreign" else {**state, "network": {"a": torch.ones(1)}}, path)
    before = content(copy)
    code, said = outcome(dataset_dir=str(acdc), output_dir=str(copy), resume=True, max_epochs=3)
    assert code == 1 and said.startswith("Resume: ") and str(path) in said
    after = content(copy)
    assert after["model.pt"] == before["model.pt"] and after["metrics.csv"] == before["metrics.csv"]
    if damage != "of another network":  # known only once the network is made
        assert after == before


def test_a_failed_restart_that_never_trained_leaves_everything(copy: Path, acdc: Path, outcome: Outcome) -> None:
    before = content(copy)
    (bad := copy.parent / "acdc").mkdir()
    shutil.copytree(acdc, bad, dirs_exist_ok=True)
    (bad / "patient001" / "patient001_frame01_gt.nii.gz").write_bytes(b"nothing")
    code, said = outcome(dataset_dir=str(bad), output_dir=str(copy), restart=True)
    assert code == 1 and "truncated or not NIfTI" in said and content(copy) == before
    code, _ = outcome(dataset_dir=str(acdc), output_dir=str(copy), restart="true", max_epochs=1)
    assert code == 0 and len(read_csv(copy / "metrics.csv")) == 1


def test_no_model_from_a_training_that_fails(tmp_path: Path, acdc: Path, outcome: Outcome) -> None:
    code, said = outcome(dataset_dir=str(acdc), output_dir=str(tmp_path), learning_rate=1e30)
    assert code == 1 and said.startswith("FiniteLoss: the term ce is nan in epoch 1, step 2, on patient0")
    assert not (tmp_path / "model.pt").exists() and not (tmp_path / "checkpoint.pt").exists()


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path, acdc: Path, outcome: Outcome) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        code, said = outcome(dataset_dir=str(acdc), output_dir=str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and f"cannot write {tmp_path}/checkpoint.pt (no space left, it seems)" in said
    assert not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob(".*.tmp"))


def test_the_second_of_two_runs_in_a_folder_is_refused(tmp_path: Path, acdc: Path, outcome: Outcome) -> None:
    given = {**TINY, "dataset_dir": str(acdc), "output_dir": str(tmp_path / "out"), "max_epochs": 500}
    code = f"raise SystemExit(start([{str(CONFIGS / 'train.yaml')!r}], {given}))"
    code = f"from monai_constraints.engines import start; {code}"
    first = begin([sys.executable, "-c", code])
    try:
        for _ in range(2400):  # of a tenth of a second: the machine may be busy
            if (tmp_path / "out" / "checkpoint.pt").exists():
                break
            time.sleep(0.1)
        code, said = outcome(dataset_dir=str(acdc), output_dir=str(tmp_path / "out"), restart=True)
        assert code == 1 and said.startswith(f"take_folder: another process trains in {tmp_path / 'out'}; wait")
        first.send_signal(signal.SIGINT)
        output, errors = first.communicate(timeout=240)
    finally:
        first.kill()
    assert first.returncode == 130
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"Interrupted: {tmp_path / 'out'}/checkpoint.pt has the last whole epoch")
    assert "Traceback" not in errors and not (tmp_path / "out" / "model.pt").exists()
    # The lock went with the process, and what is there is not lost unasked.
    code, said = outcome(dataset_dir=str(acdc), output_dir=str(tmp_path / "out"))
    assert code == 1 and "holds a training that was interrupted (checkpoint.pt); --resume True" in said


# ---- 2: resuming ---------------------------------------------------------------------------------------------------


def test_a_resumed_training_has_the_settings_that_it_had(copy: Path, acdc: Path, outcome: Outcome) -> None:
    before = content(copy)
    given = {"dataset_dir": str(acdc), "output_dir": str(copy), "resume": True}
    code, said = outcome(**given, seed=3, learning_rate=0.01, **{"loss#terms#size#loss#penalty#t": 4})
    assert code == 1 and content(copy) == before
    assert said.splitlines()[1:4] == [
        "seed: 3, was 0", "learning_rate: 0.01, was 0.002", "loss#terms#size#loss#penalty#t: 4, was 5"
    ]  # fmt: skip
    (other := copy.parent / "link").symlink_to(acdc)
    code, _ = outcome(**{**given, "dataset_dir": str(other)}, max_epochs=4, val_interval=2, device="cpu")
    assert code == 0 and len(read_csv(copy / "metrics.csv")) == 4


def test_resumed_after_the_last_epoch_all_outputs_are_there(copy: Path, acdc: Path, outcome: Outcome) -> None:
    """Killed between the last checkpoint and the end."""
    expected, old = content(copy), torch.load(copy / "model.pt", weights_only=True)
    for name in ("model.pt", "examples.png", "curves.png", "predictions.npz", "patients.csv"):
        (copy / name).unlink()
    code, _ = outcome(dataset_dir=str(acdc), output_dir=str(copy), resume=True)
    found = content(copy)
    assert code == 0 and set(found) >= {name for name in expected if not name.startswith("tensorboard")}
    assert found["patients.csv"] == expected["patients.csv"] and found["metrics.csv"] == expected["metrics.csv"]
    new = torch.load(copy / "model.pt", weights_only=True)
    assert all(torch.equal(value, new[name]) for name, value in old.items())


# ---- 4: names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epoch": 3}, "nothing reads max_epoch, did you mean max_epochs?"),
        ({"size_wieght": 3}, "nothing reads size_wieght"),
        ({"loss#terms#size#wieght": 3}, "takes no wieght, did you mean weight?"),
        ({"train#preprocesing": []}, "nothing reads train#preprocesing"),
        ({"train#dataloder#batch_size": 3}, "the configuration has no train#dataloder"),
        ({"loss#terms#size#loss#_target_": "monai_constraints.losses.ConstraintLos"}, "did you mean ConstraintLoss?"),
        ({"resume": "no"}, "resume is the text 'no', expected True or False"),
        ({"max_epochs": "many"}, "max_epochs is the text 'many', expected a number, such as 40"),
    ],
)
def test_a_name_that_nothing_reads(options: dict[str, Any], message: str, tmp_path: Path, outcome: Outcome) -> None:
    code, said = outcome(output_dir=str(tmp_path / "out"), **options)
    assert code == 1 and message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_in_overlays(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "mine.yaml"
    given = {"output_dir": str(tmp_path / "out"), "dataset_dir": str(tmp_path / "nowhere")}
    for text, message in (
        ("a: [1,\nb: 2", f"{path} is neither JSON nor YAML (while parsing"),
        ("- 1", f"{path} has no names at top level, but is a list"),
        ("often: 3", "nothing reads often"),
        ("often: 3\nseed: '@often'", "no folder"),  # read, so all is well with the names
    ):
        path.write_text(text)
        code, said = outcome(path, **given)
        assert code == 1 and message in said
    assert "there is no configuration" in outcome(tmp_path / "no.yaml")[1]


@pytest.mark.parametrize("row", sorted((CONFIGS / "rows").glob("*.yaml")), ids=lambda path: path.stem)
def test_all_rows_pass(row: Path, tmp_path: Path, outcome: Outcome) -> None:
    code, said = outcome(row, dataset_dir=str(tmp_path / "nowhere"), output_dir=str(tmp_path / "out"))
    assert code == 1 and ("no folder" in said or " goes after " in said or "does not go" in said), said


def test_the_same_without_our_command(tmp_path: Path, acdc: Path) -> None:
    """MONAI's own command names the reason last, too."""
    process = begin(command(tmp_path / "out", acdc, size_wieght=3, resume="false"))
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1 and "Traceback" not in errors
    assert "check_names: nothing reads size_wieght" in errors.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


# ---- 5: the last line ----------------------------------------------------------------------------------------------


def test_what_nobody_foresaw_keeps_its_traceback(copy: Path, acdc: Path, outcome: Outcome) -> None:
    options = {"dataset_dir": str(acdc), "output_dir": str(copy), "restart": True, "optimizer#betas": [2, 3]}
    code, said = outcome(**options)
    assert code == 1 and said.splitlines()[-1].startswith("ValueError: Invalid beta parameter")
    assert "Traceback" in (copy / "traceback.txt").read_text() and str(copy / "traceback.txt") in said
    with pytest.raises(RuntimeError, match="Failed to"):
        start([CONFIGS / "train.yaml"], {**TINY, **options}, debug=True)


def test_long_reasons_are_shortened() -> None:
    try:
        raise ValueError("Some: list\n" + "\n".join(f"line {n}" for n in range(30)) + "\ndo this")
    except ValueError as error:
        said = reason(RuntimeError("x")), reason(error)
    assert said[0] == "RuntimeError: x"
    assert len(said[1].splitlines()) <= 10 and said[1].endswith("do this") and "more lines" in said[1]
