"""Data sets, their preparation and checks, and samplers.

The modules of `datasets` are imported by their own names only: they are also commands
(`python -m monai_constraints.data.datasets.acdc`).
"""

from __future__ import annotations

from .cached_slices import CachedSlices
from .checks import check_cases, check_model, check_output_dir
from .contents import check_contents
from .datalist import all_cases, cases_of, choose_cases, find_images, log_cases, read_datalist, write_datalist
from .datasets.circles import TwoCircles
from .few_annotated import few_annotated
from .known_sizes import OracleSizes, PositionPrior, UnknownSizes
from .loaders import collate_cases, slice_loader
from .loading import LoadCased
from .mixed_slices import MixedSlices
from .oversampled import Oversampled
from .preflight import Preflight
from .readable import check_readable
from .reestimated_sizes import ReestimatedSizes
from .regressed_sizes import RegressedSizes
from .residuals import Residuals
from .same_annotated import SameAnnotated
from .samplers import GroupBatchSampler, MixedGroupSampler, MixedSampler, epoch_sampler
from .slices import SliceDataset
from .units import PhysicalUnits
from .volume_file import CaseError

__all__ = [
    "CachedSlices",
    "CaseError",
    "GroupBatchSampler",
    "LoadCased",
    "MixedGroupSampler",
    "MixedSampler",
    "MixedSlices",
    "OracleSizes",
    "Oversampled",
    "PhysicalUnits",
    "PositionPrior",
    "Preflight",
    "ReestimatedSizes",
    "RegressedSizes",
    "Residuals",
    "SameAnnotated",
    "SliceDataset",
    "TwoCircles",
    "UnknownSizes",
    "all_cases",
    "cases_of",
    "check_cases",
    "check_contents",
    "check_model",
    "check_output_dir",
    "check_readable",
    "choose_cases",
    "collate_cases",
    "epoch_sampler",
    "few_annotated",
    "find_images",
    "log_cases",
    "read_datalist",
    "slice_loader",
    "write_datalist",
]
