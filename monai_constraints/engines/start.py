"""Where a run of a bundle is started: the one place through which every command goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import run

__all__ = ["start"]


def start(
    config_files: Sequence[str | os.PathLike[str]], options: Mapping[str, Any], *, debug: bool = False
) -> int:
    """Run configurations in this process, as `python -m monai.bundle run` does.

    Args:
        config_files: merged in this order.
        options: values by id, over those of the files.
        debug: errors with their traceback.

    Returns:
        The exit code, 0 after a good end.
    """
    run(config_file=[os.fspath(file) for file in config_files], **options)
    return 0
