"""The folder of a training: one run at a time in it, and no earlier result lost unasked."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from pathlib import Path

import ignite.distributed as idist
import yaml

from monai_constraints.engines.configuration import CONFIG, differences, recorded, running_parser

__all__ = ["begin_anew", "held_folders", "take_folder"]

logger = logging.getLogger(__name__)

MODEL, CHECKPOINT = "model.pt", "checkpoint.pt"
RESULTS: tuple[str, ...] = (MODEL, CHECKPOINT, CONFIG, "metrics.csv", "curves.png", "examples.png", "patients.csv")
RESULTS += ("predictions.npz", "residuals.csv", "errors.csv", "predicted.png", "regressor.json", "datalist.json")
TRACEBACK = "traceback.txt"
MAX_KEYS = 6
_held: dict[str, int] = {}  # descriptors by folder: a lock ends with its process, killed or not
_anew: set[str] = set()


def take_folder(folder: str | os.PathLike[str], *, resume: bool = False, restart: bool = False) -> None:
    """Take the folder for a training of this process, in `initialize`, before data are read.

    An earlier result in it is not touched here. Where there is one, `model.pt` of a finished training or
    `checkpoint.pt` of one that was interrupted, the start is refused, unless it is told to go on with it, by the
    configuration that it had, or to begin anew. Cases that a program hands over as a list, as MONAI Label does, which
    trains again and again in one folder, are no start of a person, and are not refused. Processes of one `torchrun`
    share the folder.

    Args:
        folder: of the run.
        resume: go on with the training that is there.
        restart: begin anew: what an earlier run left is removed when everything is ready to train (`record_run`).

    Raises:
        BlockingIOError: another process trains in the folder.
        FileExistsError: there is an earlier result.
        ValueError: resume with another configuration, or with restart.
        RuntimeError: outside of a configuration.
    """
    if resume and restart:
        raise ValueError("take_folder: resume and restart are both asked for; choose one")
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if idist.get_rank() == 0:
        _lock(folder)
    parser = running_parser()
    found = [name for name in (MODEL, CHECKPOINT) if (folder / name).is_file()]
    if restart:
        _anew.add(os.path.realpath(folder))
    elif resume and CHECKPOINT in found:
        _compare(folder)
    elif found and not isinstance(parser.get("train#dataset#data"), list):
        what = "a finished training" if MODEL in found else "a training that was interrupted"
        go_on = "--resume True goes on with it, " if CHECKPOINT in found else ""
        python = "(from Python resume=True, restart=True; of MonaiAlgo in train_kwargs)"
        raise FileExistsError(
            f"take_folder: {folder} holds {what} ({found[0]}); {go_on}--restart True begins anew and replaces it "
            f"{python}, or choose another --output_dir"
        )


def begin_anew(folder: Path) -> None:
    """Remove what an earlier run left, if `take_folder` was told to."""
    key = os.path.realpath(folder)
    if key in _anew and idist.get_rank() == 0:
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    _anew.discard(key)


def held_folders() -> list[str]:
    """The folders in which this process trains."""
    return list(_held)


def _lock(folder: Path) -> None:
    key = os.path.realpath(folder)
    if key in _held:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BlockingIOError(
            f"take_folder: another process trains in {folder}; wait for its end, or choose another --output_dir"
        ) from None
    except OSError as error:  # some network file systems lock no folders
        logger.warning("take_folder: cannot lock %s (%s); start no second training in it", folder, error)
    _held[key] = descriptor


def _compare(folder: Path) -> None:
    path = folder / CONFIG
    if not path.is_file():
        logger.warning("take_folder: no %s; whether the training had the same settings is not checked", path)
        return
    old = yaml.safe_load(path.read_text(encoding="utf-8"))
    new = recorded(running_parser(), folder)
    lines = differences(old, new)
    if lines:
        more = [f"... and {len(lines) - MAX_KEYS} more"] if len(lines) > MAX_KEYS else []
        raise ValueError(
            "take_folder: a resumed training has the settings that it had, but for its number of epochs:\n"
            + "\n".join([*lines[:MAX_KEYS], *more])
            + f"\ngive them as they were (all are in {path}), or choose another --output_dir"
        )
    if old.get("max_epochs") != new.get("max_epochs"):
        message = "take_folder: %s epochs in place of %s; the learning rate goes on as that of the longer training"
        logger.info(message, new.get("max_epochs"), old.get("max_epochs"))
