"""What an update of DeepCut's proposals costs: seconds for 100 slices, the dense CRF in one process and in several.

The network is a U-Net at half the resolution; its part of the time is given by itself. Table B.1 has the thesis's: 440
seconds on PROMISE12 and 3120 on ATLAS. Extend these to a data set by its number of slices that have a box.

    python reproduce/benchmarks/deepcut_cost.py [--processes 1 2] [--slices 100] [--size 128] [--classes 1] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedTrainer
from torch import nn
from turns import unet

from monai_constraints.data import CachedSlices, slice_loader
from monai_constraints.engines import PrepareTargets
from monai_constraints.handlers import DeepCut


def volume(sample: Mapping[str, Any], slices: int, size: int, classes: int) -> dict[str, Any]:
    """Noise, and boxes of half of its width in every slice."""
    rng = np.random.default_rng(0)
    inside = slice(size // 4, 3 * size // 4)
    image, box = rng.random((1, size, size, slices), np.float32), np.zeros((classes, size, size, slices), np.uint8)
    image[:, inside, inside] += 1
    box[:, inside, inside] = 1
    arrays = {"image": image / 2, "box": box, "weak": box[:1]}
    return {**sample, **{key: torch.from_numpy(array) for key, array in arrays.items()}}
