"""What plugs into MONAI's training and evaluation engines."""

from __future__ import annotations

from .autocast_inferer import AutocastInferer, fast_bfloat16
from .check_configuration import check_configuration
from .dihedral_inferer import DihedralInferer
from .end_processes import end_processes
from .prepare_targets import PrepareTargets
from .run_folder import take_folder
from .run_record import TrainedRun, record_run
from .start import start
from .volume_inferer import volume_inferer

__all__ = [
    "AutocastInferer",
    "DihedralInferer",
    "PrepareTargets",
    "TrainedRun",
    "check_configuration",
    "end_processes",
    "fast_bfloat16",
    "record_run",
    "start",
    "take_folder",
    "volume_inferer",
]
