"""Some samples more often than others in an epoch."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

from torch.utils.data import Dataset, Subset

__all__ = ["Oversampled"]


class Oversampled(Subset[Any]):
    """A data set in which the samples of some groups come several times, so that they are a given share of an epoch.

    All others come once. For hybrid training: where 50 of 1 000 slices are fully annotated, most batches hold none of
    them, and then a handful of points decides alone. Batches of two streams, half labelled and half not, are the usual
    remedy in semi-supervised learning; here the sampler draws from one list, so a batch holds the share on average.

    Args:
        dataset: of samples, each of one group.
        groups: the group of every sample, e.g. `SliceDataset.cases`.
        chosen: the groups whose samples are repeated, e.g. the fully annotated cases.
        share: of an epoch's samples, above 0 and below 1. Samples are repeated a whole number of times, so it is
            reached only nearly, and where they are more than that, they come once.

    Attributes:
        times: how often each of them comes.

    Raises:
        ValueError: for a share out of range, groups that do not fit the data set, or a chosen group that is not there.

    Example:
        >>> dataset = Oversampled(slices, slices.cases, ["patient001_frame01"], share=0.5)
    """

    def __init__(
        self, dataset: Dataset[Any], groups: Sequence[Hashable], chosen: Collection[Hashable], *, share: float
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"Oversampled: share={share}; give a part of all samples, above 0 and below 1")
        if len(groups) != len(dataset):  # type: ignore[arg-type]
            raise ValueError(f"Oversampled: {len(groups)} groups for {len(dataset)} samples")  # type: ignore[arg-type]
        absent = set(chosen) - set(groups)
        if absent or not chosen:
            raise ValueError(
                f"Oversampled: of the chosen groups {sorted(map(str, chosen))} the data set lacks "
                f"{sorted(map(str, absent))}; name one or more of its own"
            )
        members = set(chosen)
        often = [index for index, group in enumerate(groups) if group in members]
        rest = len(groups) - len(often)
        self.times = max(1, round(share / (1 - share) * rest / len(often)))
        indices = [i for i, group in enumerate(groups) for _ in range(self.times if group in members else 1)]
        super().__init__(dataset, indices)
