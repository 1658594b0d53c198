"""Data sets, their preparation and checks, and samplers.

`acdc`, `isles`, `promise12`, `stroke_flair`, `vertebral_bodies` and `wmh` are imported by their own names only: they
are also commands (`python -m monai_constraints.data.datasets.acdc`).
"""

from __future__ import annotations

from .checks import check_cases, check_model, check_output_dir
from .datalist import choose_cases, read_datalist, write_datalist
from .datasets.circles import TwoCircles
from .oversampled import Oversampled
from .samplers import GroupBatchSampler, epoch_sampler
from .slices import SliceDataset

__all__ = [
    "GroupBatchSampler",
    "Oversampled",
    "SliceDataset",
    "TwoCircles",
    "check_cases",
    "check_model",
    "check_output_dir",
    "choose_cases",
    "epoch_sampler",
    "read_datalist",
    "write_datalist",
]
