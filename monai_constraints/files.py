"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["remove_stray", "replacing"]

TORCH_SAVE = ("inline_container", "PytorchStreamWriter", "iostream")  # its RuntimeErrors where a disk is full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there becomes ``path`` when the block ends well.

    One process at a time writes a file: what others left half written beside it goes.

    Raises:
        OSError: it cannot be written, for want of space or permission; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stray(path)
        yield temporary
        with open(temporary, "r+b") as file:  # without it a power cut may leave the new name with no content
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        full = isinstance(error, RuntimeError) and any(word in str(error) for word in TORCH_SAVE)
        if isinstance(error, RuntimeError) and not full:
            raise
        there = "the old file is as it was" if path.exists() else "there is none of this name yet"
        reason = "no space left, it seems" if full else getattr(error, "strerror", None) or str(error)
        raise OSError(
            f"replacing: cannot write {path} ({reason}); {there}. Free space or correct the permissions of "
            f"{path.parent}, and start again; a training goes on from its checkpoint with resume"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_stray(path: Path) -> None:
    """Remove the temporary files that killed processes left beside ``path``."""
    for stray in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        stray.unlink(missing_ok=True)
