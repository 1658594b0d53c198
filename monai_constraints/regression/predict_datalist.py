"""Writes what a regressor predicts of the patients without annotation into the datalist that a segmentation reads."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from monai_constraints.constraints import Margin, Size
from monai_constraints.constraints.plain import plain
from monai_constraints.data import PhysicalUnits, Residuals, write_datalist
from monai_constraints.data.few_annotated import owner
from monai_constraints.data.loading import case_name
from monai_constraints.keys import ANNOTATED, IMAGE, SPACING, VOLUME, predicted_key, regressed_key, regressor_key
from monai_constraints.regression.value_trainer import predict_values

__all__ = ["PredictDatalist"]

logger = logging.getLogger(__name__)


class PredictDatalist:
    """A datalist whose training cases are annotated, or have the regressor's predictions and bounds (thesis 5.3).

    A case without annotation gets `<name>_predicted`, a list over its slices in the order of the file of K lists of M
    numbers in mm2 (or the statistic's unit), `<name>_regressed`, likewise with pairs [a, b], the margin's, and
    `<name>_regressor`, the checksum of the weights. Cases that validate stay as they are. What the predictions are is
    under "regressed": statistic, classes, unit, margin, checksum, and on whom the regressor was trained. Of a case
    without annotation nothing but the image is read.

    With a `volume_margin` there are, likewise named, `volume_predicted` and `volume_regressed`, each one entry a case:
    the size of the whole volume in mm3, V = sum_S d R(x_S) over its slices of thickness d (thesis 2.4.4), with the
    margin of the held-out patients' volumes. It is another statement than that of the slices, and a narrower one where
    their errors are of either sign.

    Args:
        datalist: {"training", "validation"}.
        residuals: residuals.csv of the regressor: its patients are those that are annotated, and its margin is theirs.
        network: the regressor with its weights.
        model: their file.
        preprocessing: from a case with an image alone to a volume (C, X, Y, Z) as in the training.
        units: of the statistic.
        margin: makes bounds of predictions; learns from the residuals.
        volume_margin: likewise of volumes, for a Size; None: of slices alone.
        name: of the statistic.
        axis: of the slices.
        views: as in the training.
        device: where.
        progress: a bar.

    Raises (when called):
        ValueError: a patient of the regressor is among those that validate, or not in the training list; a volume's
            margin for another statistic than a size, or a case of the residuals that the list lacks.
    """

    def __init__(
        self,
        *,
        datalist: Mapping[str, Sequence[Mapping[str, Any]]],
        residuals: str | os.PathLike[str],
        network: nn.Module,
        model: str | os.PathLike[str],
        preprocessing: Callable[[Any], Any],
        units: PhysicalUnits,
        margin: Margin,
        volume_margin: Margin | None = None,
        name: str = "size",
        axis: int = -1,
        views: bool = True,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        self.datalist, self.residuals, self.model = datalist, residuals, model
        # As `TrainedRun` has it, so that a later prediction is the same to the last digit.
        self.network: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.preprocessing, self.units, self.margin, self.name = preprocessing, units, margin, name
        self.volume_margin = volume_margin
        self.axis, self.views, self.device, self.progress = axis, views, device, progress

    def __call__(self, path: str | os.PathLike[str]) -> None:
        """Predict, and write the JSON."""
        held_out = Residuals.read(self.residuals)
        annotated = set(held_out.patients)
        self._check(annotated)
        self.margin.fit(held_out.predicted, held_out.true, held_out.patients)
        self._fit_volumes(held_out)
        checksum = hashlib.sha256(Path(self.model).read_bytes()).hexdigest()
        training: list[dict[str, Any]] = []
        for case in tqdm(self.datalist["training"], desc="predicting", disable=not self.progress):
            if owner(case) in annotated:
                training.append({**case, ANNOTATED: True})
                continue
            predicted, thickness = self._predict(case)
            made = {
                predicted_key(self.name): predicted.tolist(),
                regressed_key(self.name): _sides(self.margin(predicted)),
                regressor_key(self.name): checksum,
            }
            if self.volume_margin is not None:
                volume = predicted.sum(0) * thickness
                made[predicted_key(VOLUME)] = volume.tolist()
                made[regressed_key(VOLUME)] = _sides(self.volume_margin(volume))
            training.append({**{key: value for key, value in case.items() if key != ANNOTATED}, **made})
        about = {
            "statistic": type(self.units.statistic.ruled).__name__, "classes": held_out.classes,
            "unit": self.units.unit, "margin": self.margin.describe(), "regressor": checksum,
            "trained_on": sorted(annotated),
        }  # fmt: skip
        rest = {key: value for key, value in self.datalist.items() if key != "training"}
        content: Any = {"training": training, **rest, "regressed": {self.name: about}}
        if self.volume_margin is not None:
            content["regressed"][VOLUME] = {**about, "unit": "mm3", "margin": self.volume_margin.describe()}
        write_datalist(content, path)
        count = sum(not case.get(ANNOTATED) for case in training)
        logger.info("PredictDatalist: %d cases predicted, %d annotated: %s", count, len(training) - count, path)

    def predict(self, case: Mapping[str, Any]) -> Tensor:
        """Predictions (S, K, M) of the slices of a case, in mm2 or the statistic's unit."""
        return self._predict(case)[0]

    def _read(self, case: Mapping[str, Any]) -> Mapping[str, Any]:
        known = {key: case[key] for key in (IMAGE, SPACING) if case.get(key) is not None}
        volume: Mapping[str, Any] = self.preprocessing({**known, "case": case_name(case)})
        return volume

    def _predict(self, case: Mapping[str, Any]) -> tuple[Tensor, float]:
        """The predictions of the slices, and how thick they are in mm."""
        volume = self._read(case)
        slices = plain(volume[IMAGE]).movedim(1 + self.axis % 3, 0).contiguous().to(self.device)
        found = predict_values(self.network, slices, views=self.views)
        spacing = torch.as_tensor(volume[SPACING], dtype=torch.float32).expand(len(found), 3)
        return self.units(found, spacing), float(spacing[0, self.axis % 3])

    def _fit_volumes(self, held_out: Residuals) -> None:
        if self.volume_margin is None:
            return
        if not isinstance(self.units.statistic.ruled, Size):
            raise ValueError(
                f"PredictDatalist: volume_margin for a {type(self.units.statistic.ruled).__name__}; only sizes of "
                "slices add up to that of their volume"
            )
        listed = {case_name(case): case for case in self.datalist["training"]}
        absent = [name for name in held_out.cases if name not in listed]
        if absent:
            raise ValueError(
                f"PredictDatalist: the regressor was trained on case {absent[0]}, which is not in the training list; "
                "pass the list that it was trained with"
            )
        thickness = {
            name: float(self._read(listed[name])[SPACING][self.axis % 3]) for name in dict.fromkeys(held_out.cases)
        }
        volumes = held_out.volumes([thickness[name] for name in held_out.cases])
        self.volume_margin.fit(volumes.predicted, volumes.true, volumes.patients)

    def _check(self, annotated: set[str]) -> None:
        reported = sorted(annotated & {owner(case) for case in self.datalist.get("validation", ())})
        if reported:
            raise ValueError(
                f"PredictDatalist: the regressor was trained on {reported[0]}, who is reported (validation); train it "
                "without this patient, or report others"
            )
        training = {owner(case) for case in self.datalist["training"]}
        absent = sorted(annotated - training)
        if absent:
            raise ValueError(
                f"PredictDatalist: the regressor was trained on {absent[0]}, who is not in the training list; pass the "
                "list that it was trained with"
            )


def _sides(bounds: Tensor) -> Any:
    """As lists in which null is no bound."""
    if bounds.ndim:
        return [_sides(one) for one in bounds]
    value = float(bounds)
    return value if abs(value) < float("inf") else None
