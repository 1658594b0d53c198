"""Learning values of statistics: trainings that leave patients out, and what they predict for a segmentation."""

from __future__ import annotations

from .leave_patients_out import LeavePatientsOut
from .predict_datalist import PredictDatalist
from .value_trainer import ValueTrainer, predict_values, values_of

__all__ = ["LeavePatientsOut", "PredictDatalist", "ValueTrainer", "predict_values", "values_of"]
