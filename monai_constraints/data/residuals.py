"""What a regressor predicted of patients who were held out: residuals.csv."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from monai_constraints.constraints import Margin
from monai_constraints.files import replacing

__all__ = ["Residuals"]

COLUMNS = ("patient", "case", "slice", "class", "value", "true", "predicted", "fold", "position_prior")


class Residuals:
    """Held-out predictions of slices beside the truth, and beside those of a rule that sees no image.

    Args:
        patients, cases, slices: (N) of each slice whose it is, and which.
        true, predicted: (N, K, M) in mm or mm2; NaN is not known.
        folds: (N) in which training the slice's patient was left out.
        prior: (N, K, M), or None.
        classes: the K values of the labels' files.
    """

    def __init__(
        self,
        *,
        patients: Sequence[str],
        cases: Sequence[str],
        slices: Sequence[int],
        true: Tensor,
        predicted: Tensor,
        folds: Sequence[int],
        classes: Sequence[int],
        prior: Tensor | None = None,
    ) -> None:
        self.patients, self.cases, self.slices = list(patients), list(cases), list(slices)
        self.true, self.predicted, self.prior = true, predicted, prior
        self.folds, self.classes = list(folds), list(classes)

    def write(self, path: str | os.PathLike[str]) -> None:
        """One row a slice, class and value."""
        with replacing(Path(path)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for n, k, m in torch.cartesian_prod(*(torch.arange(size) for size in self.true.shape)).tolist():
                prior = "" if self.prior is None else f"{self.prior[n, k, m]:.4f}"
                writer.writerow([
                    self.patients[n], self.cases[n], self.slices[n], self.classes[k], m, f"{self.true[n, k, m]:.4f}",
                    f"{self.predicted[n, k, m]:.4f}", self.folds[n], prior,
                ])  # fmt: skip

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Residuals:
        """What `write` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: other columns, or rows missing.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"Residuals: no {path}; train the regressor to its end first")
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"Residuals: {path} has the columns {reader.fieldnames}, expected {list(COLUMNS)}")
            rows = list(reader)
        classes = list(dict.fromkeys(int(row["class"]) for row in rows))
        values = 1 + max((int(row["value"]) for row in rows), default=0)
        every = len(classes) * values
        if not rows or len(rows) % every:
            raise ValueError(f"Residuals: {path} has {len(rows)} rows, expected {every} a slice; train again")
        first = rows[::every]
        tensors = (
            torch.tensor([float(row[name] or "nan") for row in rows]).reshape(-1, len(classes), values)
            for name in ("true", "predicted", "position_prior")
        )
        true, predicted, prior = tensors
        return cls(
            patients=[row["patient"] for row in first], cases=[row["case"] for row in first],
            slices=[int(row["slice"]) for row in first], folds=[int(row["fold"]) for row in first], classes=classes,
            true=true, predicted=predicted, prior=None if bool(prior.isnan().all()) else prior,
        )  # fmt: skip

    def volumes(self, thickness: Sequence[float]) -> Residuals:
        """Sizes of whole volumes in mm3, V = sum_S d R(x_S) (thesis 2.4.4), one a case: true, predicted, the prior's.

        Args:
            thickness: (N) of each slice, in mm.
        """
        names = list(dict.fromkeys(self.cases))
        first = [self.cases.index(name) for name in names]
        member = torch.tensor([names.index(name) for name in self.cases])
        mm = torch.as_tensor(thickness, dtype=torch.float32).reshape(-1, 1, 1)

        def summed(sizes: Tensor) -> Tensor:
            return sizes.new_zeros(len(names), *sizes.shape[1:]).index_add(0, member, sizes * mm)

        return Residuals(
            patients=[self.patients[i] for i in first], cases=names, slices=[0] * len(names), true=summed(self.true),
            predicted=summed(self.predicted), folds=[self.folds[i] for i in first], classes=self.classes,
            prior=None if self.prior is None else summed(self.prior),
        )  # fmt: skip

    def errors(self, *, prior: bool = False) -> Tensor:
        """Mean absolute error of each class and value, (K, M); of the position prior where asked for."""
        predicted = self.prior if prior else self.predicted
        assert predicted is not None
        return (predicted - self.true).abs().nanmean(0)

    def coverage(self, margin: Margin) -> tuple[float, float]:
        """The shares of slices, and of patients with all of theirs, that are within their bounds.

        Each patient's bounds are made of the residuals of the others alone.
        """
        slices, patients = [], []
        for patient in dict.fromkeys(self.patients):
            own = torch.tensor([name == patient for name in self.patients])
            margin.fit(self.predicted[~own], self.true[~own], [name for name in self.patients if name != patient])
            bounds, true = margin(self.predicted[own]), self.true[own]
            inside = ((bounds[..., 0] <= true) & (true <= bounds[..., 1])) | true.isnan()
            slices.append(inside.float())
            patients.append(float(inside.all()))
        return float(torch.cat(slices).mean()), sum(patients) / len(patients)
