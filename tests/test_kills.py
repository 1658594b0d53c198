"""The part of `kills.py` that fits in a test run; all of it with `-m slow`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_trainings_resume_to_the_bit(count: int) -> None:
    """In a process of its own, since one that has trained has threads, and should not fork."""
    script = Path(__file__).parent / "kills.py"
    paths = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, script, str(count)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"| all | | {count} | {count} |" in done.stdout, done.stdout + done.stderr[-4000:]
