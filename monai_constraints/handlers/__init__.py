"""Ignite handlers: what happens at the start and the end of an epoch."""

from __future__ import annotations

from monai_constraints.handlers.checkpoint import Resume
from monai_constraints.handlers.curves import Curves
from monai_constraints.handlers.deepcut import DeepCut
from monai_constraints.handlers.dual_ascent import DualAscent
from monai_constraints.handlers.epoch_seed import EpochSeed
from monai_constraints.handlers.examples import Examples
from monai_constraints.handlers.finite_loss import FiniteLoss
from monai_constraints.handlers.interval_validation import IntervalValidation
from monai_constraints.handlers.metrics_log import MetricsLog
from monai_constraints.handlers.model_file import ModelFile
from monai_constraints.handlers.records import Records
from monai_constraints.handlers.satisfaction import Satisfaction
from monai_constraints.handlers.schedule import Constant, Exponential, Linear, Schedule
from monai_constraints.handlers.slice_dice import SliceDice
from monai_constraints.handlers.trained_loader import TrainedCheckpointLoader
from monai_constraints.handlers.volume_dice import VolumeDice
from monai_constraints.handlers.volume_metrics import VolumeMetrics

__all__ = [
    "Constant",
    "Curves",
    "DeepCut",
    "DualAscent",
    "EpochSeed",
    "Examples",
    "Exponential",
    "FiniteLoss",
    "IntervalValidation",
    "Linear",
    "MetricsLog",
    "ModelFile",
    "Records",
    "Resume",
    "Satisfaction",
    "Schedule",
    "SliceDice",
    "TrainedCheckpointLoader",
    "VolumeDice",
    "VolumeMetrics",
]
