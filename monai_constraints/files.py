"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_stray", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there becomes ``path`` when the block ends well.

    One process at a time writes a file: what others left half written beside it goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stray(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # without it a power cut may leave the new name with no content
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stray(path: Path) -> None:
    """Remove the temporary files that killed processes left beside ``path``."""
    for stray in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        stray.unlink(missing_ok=True)
