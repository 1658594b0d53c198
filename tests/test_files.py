from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_constraints.files import replacing


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save(torch.zeros(100_000), path),
        lambda path: path.write_text("x" * 100_000),
        lambda path: np.savez(open(path, "wb"), a=np.random.rand(100_000)),
    ],
    ids=["torch", "text", "numpy"],
)
def test_a_disk_without_space(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"cannot write {path} \(.*\); the old file is as it was"):
            with replacing(path) as temporary:
                write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="^something else$"), replacing(tmp_path / "a"):
        raise RuntimeError("something else")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write .*there is none of this name"), replacing(tmp_path / "file" / "a"):
        pass
