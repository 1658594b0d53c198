"""What a regressor wrote into a datalist, checked against what the training wants of it (thesis 5.3)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_constraints.data.few_annotated import owner
from monai_constraints.data.loading import case_name
from monai_constraints.keys import VOLUME, regressed_key, regressor_key

__all__ = ["RegressedSizes"]

REGRESSED = "regressed"
MAX_CASES = 3


class RegressedSizes:
    """Bounds that the datalist has: each case `<name>_regressed`, and the file under "regressed" what they are.

        {"regressed": {"size": {"statistic": "Size", "classes": [3], "unit": "mm2", "margin": {...},
                                "regressor": "<sha256>", "trained_on": ["patient001", ...]}}, "training": [...], ...}

    The sizes of whole volumes, in mm3, which cases may have beside it, are said under "volume" in the same way, and
    have to be of the same regressor, statistic and classes.

    Args:
        file: the datalist JSON.
        name: of the constraint.
        classes: values of the labels' files that are to be bounded, in the order of the network's classes.
        statistic, unit: what the training takes.

    Raises (when called):
        ValueError: the file says nothing of the regressor; another statistic, unit or classes; a case without
            bounds, or with those of another regressor; a regressor that was trained on a patient who is not annotated
            here, or who is reported; sizes of volumes of which the file does not say the like.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        classes: Sequence[int] | int,
        name: str = "size",
        statistic: str = "Size",
        unit: str = "mm2",
    ) -> None:
        self.file, self.name = file, name
        self.expected = {
            "statistic": statistic, "classes": [classes] if isinstance(classes, int) else list(classes), "unit": unit
        }  # fmt: skip

    def __call__(
        self,
        annotated: Sequence[dict[str, Any]],
        others: Sequence[dict[str, Any]],
        validation: Sequence[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        about = self._about(self.name)
        self._check_about(about, self.expected)
        if any(regressed_key(VOLUME) in case for case in others):
            same = {**self.expected, "unit": "mm3", "regressor": about["regressor"]}
            self._check_about(self._about(VOLUME), same, " of volumes")
        self._check_patients(set(about.get("trained_on", [])), annotated, validation)
        key, checksum = regressed_key(self.name), regressor_key(self.name)
        without = [case_name(case) for case in others if key not in case]
        if without:
            raise ValueError(
                f"RegressedSizes: {len(without)} of {len(others)} cases without annotation have no {key}, such as "
                f"{', '.join(without[:MAX_CASES])}; predict them too, or leave them out"
            )
        foreign = [case for case in others if case.get(checksum, about["regressor"]) != about["regressor"]]
        if foreign:
            raise ValueError(
                f"RegressedSizes: case {case_name(foreign[0])} has predictions of another regressor "
                f"({foreign[0][checksum]}) than the file says ({about['regressor']}); predict all cases with one"
            )
        return [dict(case) for case in others]

    def _check_about(self, about: Mapping[str, Any], wanted: Mapping[str, Any], which: str = "") -> None:
        for key, expected in wanted.items():
            if about.get(key) != expected:
                raise ValueError(
                    f"RegressedSizes: the predictions{which} of {self.file} have {key} {about.get(key)!r}, this "
                    f"training takes {expected!r}; predict again with it, or change the training's structure"
                )

    def _about(self, name: str) -> Mapping[str, Any]:
        if not self.file:
            raise ValueError(
                "RegressedSizes: no datalist_file, so the cases without annotation have no bounds; train acdc_size and "
                "predict first (monai-constraints semi does both), or take the row oracle or position_prior"
            )
        content = json.loads(Path(self.file).read_text(encoding="utf-8"))
        about = content.get(REGRESSED, {}).get(name)
        if not isinstance(about, dict) or not about.get("regressor"):
            raise ValueError(
                f"RegressedSizes: {self.file} does not say under {REGRESSED!r} what its {name!r} are and which "
                "regressor made them; write it with the regressor's inference"
            )
        return about

    @staticmethod
    def _check_patients(
        trained_on: set[str], annotated: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]
    ) -> None:
        reported = sorted(trained_on & {owner(case) for case in validation})
        if reported:
            raise ValueError(
                f"RegressedSizes: the regressor was trained on {reported[0]}, a patient who is reported (validation); "
                "train it without, or report others"
            )
        more = sorted(trained_on - {owner(case) for case in annotated})
        if more:
            raise ValueError(
                f"RegressedSizes: the regressor was trained on {more[0]}, who is not annotated here; annotate this "
                "patient too, or train the regressor on the annotated patients alone"
            )
