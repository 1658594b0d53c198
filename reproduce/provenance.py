"""What a number was made with: versions, machine in general terms, commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from monai_constraints.engines import fast_bfloat16

__all__ = ["cores", "describe"]

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "monai-constraints")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(repository: Path) -> dict[str, Any]:
    """Versions, machine and the commit of `repository`, None where it has none."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    machine = {"cpu": _cpu(), "cores": cores(), "gpus": gpus, "cpu_bfloat16": fast_bfloat16("cpu")}
    commit = _output("git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=12")
    return {"versions": versions, "machine": machine, "commit": commit or None}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
