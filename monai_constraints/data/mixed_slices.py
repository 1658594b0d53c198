"""Slices of a few annotated and of many other cases, in batches that have a stated share of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose

from monai_constraints.data.cached_slices import CachedSlices, Transform
from monai_constraints.data.loading import case_name
from monai_constraints.keys import ANNOTATED, IMAGE, LABEL, WEAK

__all__ = ["MixedSlices"]


class MixedSlices(CachedSlices):
    """`CachedSlices` of which every batch of an epoch has a share that is annotated (cases that say `annotated`).

    An epoch is a number of samples, not once through the cases: so a training with 5 annotated patients takes as many
    steps as one with 40, and what an epoch shows of either kind goes on where the last one stopped (`MixedSampler`).

    Args:
        data, transform, keys, annotate, drop, axis, device, progress: as in `CachedSlices`. Of a list in which no case
            says whether it is annotated, as MONAI Label hands it over, those with a label are.
        of_volume: transforms of a volume after `transform`, such as the one that writes `weak`.
        classes: names of the foreground classes, which have to occur in the annotated slices' `weak`.
        share: of annotated slices; without any others it is all of them.
        samples: of an epoch, the steps times the slices of a batch.
        alone: so many epochs, from the first, show annotated slices only: a network that knows nothing yet satisfies
            a size with whatever is bright.

    Attributes:
        annotated: of every slice, whether its case is.

    Raises:
        ValueError: as `CachedSlices`; a share that is not above 0 and below 1, nobody annotated, or a class that never
            occurs in the annotated slices.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Transform,
        *,
        samples: int,
        share: float = 0.5,
        alone: int = 0,
        keys: Sequence[str] = (IMAGE, WEAK),
        of_volume: Sequence[Transform] = (),
        annotate: Sequence[Transform] = (),
        drop: Sequence[str] = (),
        axis: int = -1,
        classes: Sequence[str] = (),
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        if not any(ANNOTATED in case for case in data):
            data = [{**case, ANNOTATED: LABEL in case} for case in data]
        whole = {case_name(case) for case in data if case.get(ANNOTATED)}
        if not 0 < share < 1 or samples < 1 or alone < 0 or not whole:
            raise ValueError(
                f"MixedSlices: share={share}, samples={samples}, alone={alone} and {len(whole)} annotated cases; "
                "expected a share above 0 and below 1, one sample or more, no negative number of epochs, and one "
                "annotated case or more"
            )
        super().__init__(
            data,
            Compose([transform, *of_volume]),
            keys=keys,
            annotate=annotate,
            drop=drop,
            axis=axis,
            device=device,
            progress=progress,
        )
        self.annotated = [case in whole for case in self.cases]
        self.share, self.samples, self.alone = share, samples, alone
        seen = set[int]()
        for index, own in enumerate(self.annotated):
            seen |= set(self[index][WEAK].unique().tolist()) if own and len(seen) <= len(classes) else set()
        absent = [name for k, name in enumerate(classes, 1) if k not in seen]
        if absent:
            raise ValueError(
                f"MixedSlices: {', '.join(absent)} in no label of the {len(whole)} annotated cases; annotate others, "
                "or correct the structure"
            )
