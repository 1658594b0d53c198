"""Whether an earlier run that a training goes on from had the same annotated patients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from monai_constraints.data.few_annotated import Case, SizeSource, few_annotated, listed, owner

__all__ = ["SameAnnotated"]

CONFIG = "config.yaml"  # of a run's folder
CHOICE = ("datalist", "annotated_count", "patients", "draw")


class SameAnnotated:
    """The bounds of `sizes`, where the earlier run was trained on the masks of the same patients.

    What another network finds in a case is worth what that network may have seen. One that was trained on other
    patients may have seen the masks of those that are reported here, and its word would carry them in.

    Args:
        sizes: the bounds.
        run: the folder of the earlier run, whose `config.yaml` says who was annotated.

    Raises (when called):
        ValueError: no run is given, or its annotated patients are others.
        FileNotFoundError: the folder has no `config.yaml`.
    """

    def __init__(self, sizes: SizeSource, *, run: str | os.PathLike[str]) -> None:
        self.sizes, self.run = sizes, run

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        if not self.run:
            raise ValueError("SameAnnotated: no earlier run; name the folder of a finished run of the same patients")
        path = Path(self.run) / CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"SameAnnotated: {path} is missing; name the folder of a finished run")
        parser = ConfigParser(ConfigParser.load_config_file(str(path)))
        datalist, count, patients, draw = (parser.get_parsed_content(key) for key in CHOICE)
        chosen = few_annotated(
            datalist, sizes=self.sizes, count=count, patients=patients, draw=draw, alone=True
        )
        before, now = ({owner(case) for case in cases} for cases in (chosen, annotated))
        if before != now:
            raise ValueError(
                f"SameAnnotated: the run {self.run} was trained on the masks of {listed(sorted(before))}, here those "
                f"of {listed(sorted(now))} are annotated; name a run of the same patients"
            )
        return self.sizes(annotated, others, validation)
