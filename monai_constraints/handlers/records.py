"""Everything that a run leaves for its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from monai_constraints.handlers.curves import Curves
from monai_constraints.handlers.examples import Examples
from monai_constraints.handlers.metrics_log import MetricsLog
from monai_constraints.handlers.volume_metrics import VolumeMetrics

__all__ = ["Records"]


class Records:
    """`metrics.csv`, `tensorboard/`, `curves.png`, `examples.png`, `patients.csv` and `predictions.npz` of a run.

    `MetricsLog`, `Curves`, `Examples` and `VolumeMetrics` together; each can be attached alone.

    Args:
        output_dir: the folder.
        evaluator: the engine that validates; None when `attach` is called with the evaluator itself, which has no
            epochs and so no metrics.csv and curves.
        class_names: of the foreground classes 1, 2, ...
        loss, optimizer, extra: of `MetricsLog`.
        zoom: voxels of the file per voxel of the grid that is measured, along each axis of the volume.
        slice_axis: the axis of the volume that was cut in slices.
        spacing_key: the entry with the voxel size of the file; None: of images without millimetres.
        image_channel: the modality in pictures.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine | None = None,
        class_names: Sequence[str],
        loss: Any = None,
        optimizer: torch.optim.Optimizer | None = None,
        extra: Mapping[str, Callable[[], float]] | None = None,
        zoom: Sequence[float] = (1, 1, 1),
        slice_axis: int = -1,
        spacing_key: str | None = "spacing",
        image_channel: int = 0,
    ) -> None:
        volumes = VolumeMetrics(
            output_dir, evaluator=evaluator, class_names=class_names, zoom=zoom, slice_axis=slice_axis,
            spacing_key=spacing_key, image_channel=image_channel,
        )  # fmt: skip
        self.handlers: list[MetricsLog | Curves | Examples | VolumeMetrics] = []
        if evaluator is not None:
            log = MetricsLog(output_dir, evaluator=evaluator, loss=loss, optimizer=optimizer, extra=extra)
            self.handlers += [log, Curves(output_dir)]
        self.handlers += [Examples(output_dir, evaluator=evaluator, image_channel=image_channel), volumes]

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, the trainer, or an evaluator that runs alone."""
        for handler in self.handlers:
            handler.attach(engine)
