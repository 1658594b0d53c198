"""A regressor and its errors, from the annotated patients alone (thesis 5.3, with margins that state a coverage)."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_constraints.constraints import ConformalMargin, Margin, Size, highest_level
from monai_constraints.data import CachedSlices, PhysicalUnits, PositionPrior, Residuals
from monai_constraints.files import replacing
from monai_constraints.keys import PATIENT, SLICE, SPACING, VOLUME
from monai_constraints.pictures import plot_predicted
from monai_constraints.regression.value_trainer import ValueTrainer

__all__ = ["LeavePatientsOut"]

logger = logging.getLogger(__name__)

CHECKPOINT, MODEL, RESIDUALS, SUMMARY = "checkpoint.pt", "model.pt", "residuals.csv", "regressor.json"
VOLUMES = "volumes.csv"
FEW = 5  # of three patients of ACDC a level of 0.9 covered 0.57 to 0.77 of others


class LeavePatientsOut:
    """Trains without each patient in turn, then on all: the errors and the length of the training are held-out ones.

    1. A fold is a patient, up to `max_folds` of them; of more patients, the folds are groups of them of equal size, so
       that the cost stays that of `max_folds` + 1 trainings. A fold's network predicts the fold's slices every
       `interval` epochs.
    2. The epoch with the smallest mean absolute error over all folds together is chosen. One number chosen for all
       folds makes the errors look smaller than they are by very little.
    3. The network is trained on all patients for so many epochs. What it errs on others is taken to be what the folds
       erred: those had fewer patients, so rather less.

    Written: `checkpoint.pt` after each fold, from which `resume` goes on in the next one; `residuals.csv`;
    `errors.csv`, the held-out error by epoch; `predicted.png`, predicted against true; `regressor.json`, a summary; and
    at the end `model.pt`.

    Args:
        trainer: with the slices of the annotated patients.
        units: of the statistic.
        classes, class_names: the values of the labels' files, and what they are called in tables and pictures.
        max_epochs: of a fold.
        interval: epochs between two looks at the held-out slices.
        max_folds: more patients than that are left out in groups.
        views: predict by the mean over turned and mirrored images.
        margin: of the bounds; its coverage of each patient by the others is reported.
        volume_margin: of the size of whole volumes, the sum over their slices in mm3, which is then measured too, in
            `volumes.csv` and `volumes.png`; None: slices alone.
        prior: predicts the annotated patients without images, for comparison; None for other statistics than sizes.
        output_dir: the folder of the run.
        resume: go on after the last complete fold.

    Raises (when called):
        ValueError: fewer than two patients, a checkpoint of other folds, or more than the patients can promise. Before:
            a volume's margin for another statistic than a size.
    """

    def __init__(
        self,
        *,
        trainer: ValueTrainer,
        units: PhysicalUnits,
        classes: Sequence[int],
        class_names: Sequence[str],
        max_epochs: int,
        margin: Margin,
        output_dir: str | os.PathLike[str],
        interval: int = 5,
        max_folds: int = 10,
        views: bool = True,
        prior: PositionPrior | None = None,
        volume_margin: Margin | None = None,
        resume: bool = False,
    ) -> None:
        if min(max_epochs, interval) < 1 or max_folds < 2:
            raise ValueError(
                f"LeavePatientsOut: max_epochs={max_epochs}, interval={interval}, max_folds={max_folds}; give at least "
                "one epoch, and two folds"
            )
        self.trainer, self.units, self.classes, self.margin = trainer, units, list(classes), margin
        if len(class_names) != len(classes):
            raise ValueError(
                f"LeavePatientsOut: classes {list(classes)} and class_names {list(class_names)}; name each"
            )
        if volume_margin is not None and not isinstance(units.statistic.ruled, Size):
            raise ValueError(
                f"LeavePatientsOut: volume_margin for a {type(units.statistic.ruled).__name__}; only sizes of slices "
                "add up to that of their volume, so learn a Size, or leave the margin out"
            )
        self.volume_margin = volume_margin
        self.names = list(class_names)
        self.epochs = sorted({*range(interval, max_epochs, interval), max_epochs})
        self.max_folds, self.views, self.prior, self.resume = max_folds, views, prior, resume
        self.folder = Path(output_dir)

    def __call__(self) -> nn.Module:
        """All of it; the network that was trained on all patients, whose weights the trainer's network has then too."""
        dataset = self.trainer.dataset
        owners = [dataset[index][PATIENT] for index in range(len(dataset))]
        folds = self.folds(owners)
        self.check_level(self.margin, len(set(owners)), len(owners))
        self.check_level(self.volume_margin, len(set(owners)), len(set(dataset.cases)), "volume")
        done = self._done(folds)
        for number, patients in enumerate(folds):
            if number < len(done):
                continue
            done.append(self._fold(number, patients, owners, len(folds)))
            with replacing(self.folder / CHECKPOINT) as temporary:
                torch.save({"folds": folds, "predicted": done}, temporary)
        fold_of = {patient: number for number, patients in enumerate(folds) for patient in patients}
        predicted = torch.empty(len(self.epochs), len(owners), *done[0].shape[2:])
        for number, values in enumerate(done):
            predicted[:, [index for index, name in enumerate(owners) if fold_of[name] == number]] = values
        every = range(len(owners))
        spacing = torch.stack([dataset[index][SPACING] for index in every]).cpu()
        true = self.units(self.trainer.targets(every), spacing)
        held_out = torch.stack([self.units(values, spacing) for values in predicted])
        best = self._choose(held_out, true)
        residuals = Residuals(
            patients=owners, cases=dataset.cases, slices=[dataset[index][SLICE] for index in every], true=true,
            predicted=held_out[best], folds=[fold_of[name] for name in owners], classes=self.classes,
            prior=self._prior(dataset),
        )  # fmt: skip
        residuals.write(self.folder / RESIDUALS)
        plot_predicted(residuals, self.folder / "predicted.png", unit=self.units.unit, names=self.names)
        volumes = None
        if self.volume_margin is not None:
            volumes = residuals.volumes(spacing[:, self.units.axis % 3].tolist())
            volumes.write(self.folder / VOLUMES)
            plot_predicted(volumes, self.folder / "volumes.png", unit="mm3", names=self.names)
        epochs = self.epochs[best]
        network = self.trainer(every, epochs=epochs, what="all patients", number=len(folds))
        self._summarise(residuals, volumes, epochs, len(folds))
        with replacing(self.folder / MODEL) as temporary:
            torch.save(network.state_dict(), temporary)
        self.trainer.network.load_state_dict(network.state_dict())
        return network

    def folds(self, owners: Sequence[str]) -> list[list[str]]:
        """The patients that are left out together, of sizes that differ by one at most."""
        patients = sorted(set(owners))
        if len(patients) < 2:
            raise ValueError(
                f"LeavePatientsOut: {len(patients)} annotated patient, expected two or more: errors are measured on "
                "one who was left out; annotate more (annotated_count)"
            )
        count = min(len(patients), self.max_folds)
        return [patients[number::count] for number in range(count)]

    @staticmethod
    def check_level(margin: Margin | None, patients: int, count: int, of: str = "slice") -> None:
        """Refuse a margin that so many patients, and slices or volumes, cannot promise, before anything is trained."""
        if not isinstance(margin, ConformalMargin):
            return
        number, unit = (patients, "patient") if margin.unit == "patient" else (count, of)
        if margin.level > highest_level(number) + 1e-9:
            raise ValueError(
                f"LeavePatientsOut: {number} {unit}s can promise a coverage of {highest_level(number):.3f} at most, "
                f"the margin's level is {margin.level}; ask for less, annotate more, or take unit='slice'"
            )
        if unit != "patient" and patients < FEW:
            logger.warning(
                "LeavePatientsOut: a margin of %.2f from the %ss of %d patients may cover far fewer of others; "
                "annotate %d or more, or widen it", margin.level, unit, patients, FEW,
            )  # fmt: skip

    def _fold(self, number: int, patients: Sequence[str], owners: Sequence[str], count: int) -> Tensor:
        """What the network predicts of the patients that are left out, (epochs, N, K, M)."""
        out = [index for index, name in enumerate(owners) if name in patients]
        rest = [index for index, name in enumerate(owners) if name not in patients]
        found: list[Tensor] = []

        def look(epoch: int, network: nn.Module) -> None:
            if epoch in self.epochs:
                found.append(self.trainer.predict(network, out, views=self.views))

        what = f"fold {number + 1} of {count}"
        self.trainer(rest, epochs=self.epochs[-1], what=what, number=number, after_epoch=look)
        return torch.stack(found)

    def _choose(self, held_out: Tensor, true: Tensor) -> int:
        """The place of the best epoch; errors of classes and values count by how much their targets vary."""
        errors = (held_out - true).abs().nanmean(1)
        spread = (true - true.nanmean(0)).abs().nanmean(0).clamp_min(1e-6)
        with replacing(self.folder / "errors.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            names = [f"class{k}_value{m}" for k in self.classes for m in range(errors.shape[2])]
            writer.writerow(["epoch", *names])
            writer.writerows([epoch, *row.flatten().tolist()] for epoch, row in zip(self.epochs, errors))
        return int((errors / spread).flatten(1).mean(1).argmin())

    def _prior(self, dataset: CachedSlices) -> Tensor | None:
        if self.prior is None:
            return None
        predicted = [values for values, _ in self.prior.held_out([dict(case) for case in dataset.data])]
        return torch.cat([torch.as_tensor(values, dtype=torch.float32) for values in predicted])[..., None]

    def _done(self, folds: list[list[str]]) -> list[Tensor]:
        path = self.folder / CHECKPOINT
        if not self.resume or not path.is_file():
            return []
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content.get("folds") != folds:
            raise ValueError(
                f"LeavePatientsOut: {path} has other folds of patients; resume with the patients that it was made "
                "with, or begin anew with --restart True"
            )
        logger.info("LeavePatientsOut: %d of %d folds are done.", len(content["predicted"]), len(folds))
        return list(content["predicted"])

    def _summarise(self, residuals: Residuals, volumes: Residuals | None, epochs: int, folds: int) -> None:
        patients = sorted(set(residuals.patients))
        content: dict[str, Any] = {
            "statistic": type(self.units.statistic.ruled).__name__, "classes": self.classes, "unit": self.units.unit,
            "trained_on": patients, "folds": folds, "epochs": epochs,
            "highest_level_of_patients": round(highest_level(len(patients)), 4), **_measured(residuals, self.margin),
        }  # fmt: skip
        if volumes is not None and self.volume_margin is not None:
            content[VOLUME] = {"unit": "mm3", **_measured(volumes, self.volume_margin, "volumes")}
        with replacing(self.folder / SUMMARY) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        logger.info("LeavePatientsOut: %s", json.dumps(content))


def _measured(residuals: Residuals, margin: Margin, what: str = "slices") -> dict[str, Any]:
    """Errors beside the prior's, the margin that they make, and what it covers of each patient made of the others."""
    margin.fit(residuals.predicted, residuals.true, residuals.patients)
    content: dict[str, Any] = {
        "mean_absolute_error": residuals.errors().tolist(),
        "position_prior": None if residuals.prior is None else residuals.errors(prior=True).tolist(),
        "margin": margin.describe(),
    }
    try:
        share, whole = residuals.coverage(margin)
        return {**content, "held_out_coverage": {what: round(share, 4), "patients": round(whole, 4)}}
    except ValueError:
        return {**content, "held_out_coverage": None}  # one patient fewer cannot promise this level
