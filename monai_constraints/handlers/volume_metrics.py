"""Each case measured as the volume it is: patients.csv."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys

from monai_constraints.columns import PATIENTS_COLUMNS
from monai_constraints.files import replacing
from monai_constraints.keys import CASE, PATIENT, SLICE, SPACING
from monai_constraints.metrics.volume import dice_of_masks, hausdorff95
from monai_constraints.pictures.examples import class_map, shown_channel

__all__ = ["VolumeMetrics"]

logger = logging.getLogger(__name__)

_WHOLE = -1  # the slice number of a sample that has none: a whole volume, or a lone image


class _Piece(NamedTuple):
    """One sample of a case: class maps, uint8."""

    prediction: np.ndarray
    truth: np.ndarray


class _Shown(NamedTuple):
    """The slice of a case that pictures show, the one with most ground truth."""

    voxels: int
    slice: int
    image: np.ndarray


class VolumeMetrics:
    """Put the slices of each case together, and write `patients.csv` and `predictions.npz` at the end, on rank 0.

    `patients.csv` has a row for each case and foreground class: case; patient; class; `dice` in 3D (both empty: 1);
    `hd95` in mm (both empty: 0; one empty: the diagonal of the volume); `dice_2d`, the mean over the case's slices,
    where a slice without the class counts 1 if nothing is predicted and 0 otherwise; and the number of `slices`: of
    all, of those without the class (`absent`), of these where nothing is predicted either (`left_empty`), and of those
    with the class where nothing is predicted (`missed`).
    `predictions.npz` has, for pictures, the slice of each case with most ground truth: image/CASE (float16), label/CASE
    and pred/CASE (uint8 classes).

    The evaluator must decollate. Its output has image, and pred and label as one-hot (K, *S) or classes (1, *S); its
    batch has `case`, and may have `slice`, `patient` and the spacing. A sample without `slice` is a whole volume, or
    an image that stands alone. Slices may come in any order, twice, or from any rank.

    Args:
        output_dir: the folder.
        evaluator: the engine that validates; None when `attach` is called with the evaluator itself.
        class_names: of the foreground classes 1, 2, ...
        zoom: voxels of the file per voxel of the grid that the network sees, along each axis of the volume.
        spacing_key: the item's entry with the voxel size of the file in mm, one number an axis. Where an item has
            none, `hd95` is empty: millimetres are not guessed. None: of images without millimetres.
        slice_axis: the axis of the volume that was cut in slices.
        image_channel: the modality in `predictions.npz`.

    Raises:
        KeyError: when validating, if a sample has no `case`.
        TypeError: when validating, if the output is not a list of samples.
        ValueError: when validating, for a class without a name, or an image without that channel.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine | None = None,
        class_names: Sequence[str],
        zoom: Sequence[float] = (1, 1, 1),
        spacing_key: str | None = SPACING,
        slice_axis: int = -1,
        image_channel: int = 0,
    ) -> None:
        if isinstance(class_names, str) or not class_names:
            raise ValueError(f"VolumeMetrics: class_names={class_names!r}, expected a list of one name or more.")
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.class_names = tuple(class_names)
        self.zoom = tuple(float(factor) for factor in zoom)
        self.spacing_key = spacing_key
        self.slice_axis, self.image_channel = slice_axis, image_channel
        self._validated = False
        self._pieces: dict[str, dict[int, _Piece]] = {}
        self._items: dict[str, tuple[str, tuple[float, ...] | None]] = {}  # patient and spacing of each case
        self._shown: dict[str, _Shown] = {}

    def attach(self, engine: Engine) -> None:
        """Write when ``engine``, the trainer (or an evaluator that runs alone), completes."""
        if engine.has_event_handler(self._finish, Events.COMPLETED):
            return
        collecting = engine if self.evaluator is None else self.evaluator
        collecting.add_event_handler(Events.STARTED, self._forget)
        collecting.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _forget(self, engine: Engine) -> None:
        self._validated = True
        self._pieces = {}  # images stay: those of every validation are the same

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        if not isinstance(output, list) or not isinstance(batch, list):
            raise TypeError(
                f"VolumeMetrics: expected lists of samples, got {type(output).__name__} and {type(batch).__name__}; "
                "make the evaluator with decollate=True."
            )
        maps = [class_map(out[key]) for out in output for key in (CommonKeys.PRED, CommonKeys.LABEL)]
        # One copy from the device for the whole batch.
        flat = torch.cat([one.to(torch.uint8).flatten() for one in maps]).cpu()
        pieces = [part.reshape(one.shape).numpy() for part, one in zip(flat.split([m.numel() for m in maps]), maps)]
        for out, item, prediction, truth in zip(output, batch, pieces[::2], pieces[1::2]):
            if CASE not in item:
                raise KeyError(f"VolumeMetrics: a sample has no 'case', it has {sorted(item)}; name the cases.")
            highest = max(int(prediction.max()), int(truth.max()))
            if highest > len(self.class_names):
                raise ValueError(
                    f"VolumeMetrics: case {item[CASE]} has class {highest}, class_names has {self.class_names}; "
                    "give one name for each foreground class."
                )
            case, number = str(item[CASE]), int(item.get(SLICE, _WHOLE))
            spacing = None if self.spacing_key is None else item.get(self.spacing_key)
            size = None if spacing is None else tuple(float(length) for length in spacing)
            self._items[case] = (str(item.get(PATIENT, case)), size)
            self._pieces.setdefault(case, {})[number] = _Piece(prediction, truth)
            self._show(case, number, truth, out[CommonKeys.IMAGE])

    def _show(self, case: str, number: int, truth: np.ndarray, image: torch.Tensor) -> None:
        if truth.ndim == 3:
            number = _fullest(truth, self.slice_axis)
            truth = truth.take(number, self.slice_axis)
        voxels = int((truth > 0).sum())
        if case in self._shown and self._shown[case].voxels >= voxels:
            return
        plane = torch.as_tensor(shown_channel(image, self.image_channel)).as_subclass(torch.Tensor)
        if plane.ndim == 3:
            plane = plane.select(self.slice_axis, number)
        self._shown[case] = _Shown(voxels, number, plane.to("cpu", torch.float16).numpy())

    def _finish(self, engine: Engine) -> None:
        if not self._validated and self.evaluator is not None:
            # Resumed after the last epoch: nothing was trained or validated.
            if (self.output_dir / "patients.csv").is_file():
                return
            self.evaluator.run()
        if idist.get_world_size() > 1:
            self._gather()
        if idist.get_rank() != 0 or not self._pieces:
            return
        unknown = [case for case in self._pieces if self._items[case][1] is None]
        if unknown and self.spacing_key is not None:
            logger.warning(
                "VolumeMetrics: %d of %d cases have no %r, so their hd95 is empty; add [dx, dy, dz] in mm to the "
                "datalist.", len(unknown), len(self._pieces), self.spacing_key,
            )  # fmt: skip
        rows = [row for case in sorted(self._pieces) for row in self._measure(case)]
        with replacing(self.output_dir / "patients.csv") as temporary:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(PATIENTS_COLUMNS)
                writer.writerows(rows)
        with replacing(self.output_dir / "predictions.npz") as temporary:
            with open(temporary, "wb") as stream:  # NumPy would add its suffix to a name
                np.savez_compressed(stream, **dict(self._planes()))  # type: ignore[arg-type]

    def _gather(self) -> None:
        own = (self._pieces, self._items, self._shown)
        everyone: Any = idist.all_gather(own)
        if idist.get_rank() != 0:
            return
        for pieces, items, shown in everyone:
            for case in pieces:
                self._pieces.setdefault(case, {}).update(pieces[case])
                if case not in self._shown or shown[case].voxels > self._shown[case].voxels:
                    self._shown[case] = shown[case]
            self._items |= items

    def _measure(self, case: str) -> Iterable[tuple[Any, ...]]:
        patient, spacing = self._items[case]
        prediction, truth, there = self._volume(self._pieces[case])
        voxel = None if spacing is None else self._voxel(spacing, truth.ndim)
        for k, name in enumerate(self.class_names, 1):
            p, g = prediction == k, truth == k
            # (slices, voxels): a lone image is its own slice
            planes = [np.moveaxis(mask, self.slice_axis, 0)[there] if mask.ndim == 3 else mask[None] for mask in (p, g)]
            by_slice = np.mean([dice_of_masks(*pair) for pair in zip(*planes)])
            hd95 = "" if voxel is None else f"{hausdorff95(p, g, voxel):.6g}"
            empty, absent = (~mask.reshape(len(mask), -1).any(1) for mask in planes)
            counts = len(absent), absent.sum(), (empty & absent).sum(), (empty & ~absent).sum()
            yield case, patient, name, f"{dice_of_masks(p, g):.6g}", hd95, f"{by_slice:.6g}", *counts

    def _volume(self, pieces: Mapping[int, _Piece]) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Prediction and truth of a case, and where along the slice axis there are slices."""
        if _WHOLE in pieces:
            prediction, truth = pieces[_WHOLE]
            return prediction, truth, list(range(truth.shape[self.slice_axis]))
        # Slices that the data set leaves out are empty, so that distances across them are right.
        first, last = min(pieces), max(pieces)
        shape = next(iter(pieces.values())).truth.shape
        volumes = np.zeros((2, last - first + 1, *shape), np.uint8)
        for number, piece in pieces.items():
            volumes[:, number - first] = piece
        prediction, truth = (np.moveaxis(volume, 0, self.slice_axis) for volume in volumes)
        return prediction, truth, sorted(number - first for number in pieces)

    def _voxel(self, spacing: tuple[float, ...], axes: int) -> tuple[float, ...]:
        """The voxel size on the grid of the network, in mm."""
        if len(spacing) != len(self.zoom):
            raise ValueError(f"VolumeMetrics: spacing {spacing} and zoom {self.zoom}; give both for the same axes.")
        voxel = [length * factor for length, factor in zip(spacing, self.zoom)]
        if axes == 2 and len(voxel) == 3:  # an image that stands alone
            del voxel[self.slice_axis]
        return tuple(voxel)

    def _planes(self) -> Iterable[tuple[str, np.ndarray]]:
        for case, (_, number, image) in sorted(self._shown.items()):
            if case in self._pieces:
                pieces = self._pieces[case]
                prediction, truth = pieces[number] if number in pieces else pieces[_WHOLE]
                if truth.ndim == 3:
                    prediction, truth = (mask.take(number, self.slice_axis) for mask in (prediction, truth))
                yield from ((f"image/{case}", image), (f"label/{case}", truth), (f"pred/{case}", prediction))


def _fullest(truth: np.ndarray, axis: int) -> int:
    return int(np.moveaxis(truth > 0, axis, 0).reshape(truth.shape[axis], -1).sum(1).argmax())
