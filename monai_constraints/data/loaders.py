"""Data loaders: of cached slices, and what makes a batch of whole cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import list_data_collate
from torch.utils.data import DataLoader, Dataset, Sampler

from monai_constraints.data.cached_slices import CachedSlices
from monai_constraints.data.mixed_slices import MixedSlices
from monai_constraints.data.samplers import GroupBatchSampler, MixedGroupSampler, MixedSampler, epoch_sampler

__all__ = ["collate_cases", "slice_loader"]


def slice_loader(
    dataset: Dataset[Any], *, batch_size: int = 1, shuffle: bool = True, seed: int = 0, volumes: bool = False
) -> DataLoader[Any]:
    """A loader of `CachedSlices`, or of a data set made of them such as `Oversampled`, in one process or in many.

    The order is a closed form of seed and epoch, so that resuming is exact.

    Args:
        dataset: the slices. Of `MixedSlices` an epoch has the samples and the share that they say.
        batch_size: slices a batch.
        shuffle: another order every epoch, and equally many samples for all ranks; False for evaluation, where each
            sample counts once.
        seed: the same on all ranks.
        volumes: a batch is all slices of a volume, for constraints that these share (thesis 2.4.4). Of `MixedSlices` an
            epoch then has as many batches as it would have otherwise, and the share is one of volumes.

    Raises:
        TypeError: `volumes` of a data set that does not say which slices are of one volume.
    """
    if volumes:
        cases = getattr(dataset, "cases", None)
        if cases is None:
            raise TypeError(f"slice_loader: {type(dataset).__name__} has no cases; volumes=True takes CachedSlices")
        batches: Sampler[list[int]] = GroupBatchSampler(cases, shuffle=shuffle, seed=seed)
        if shuffle and isinstance(dataset, MixedSlices):
            steps = max(1, dataset.samples // batch_size)
            batches = MixedGroupSampler(
                cases, dataset.annotated, share=dataset.share, batches=steps, alone=dataset.alone, seed=seed
            )
        return DataLoader(dataset, batch_sampler=batches, collate_fn=CachedSlices.collate)
    sampler: Sampler[int] = epoch_sampler(dataset, shuffle=shuffle, seed=seed, even=shuffle)
    if shuffle and isinstance(dataset, MixedSlices):
        sampler = MixedSampler(
            dataset.annotated, share=dataset.share, samples=dataset.samples, alone=dataset.alone, seed=seed
        )
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=CachedSlices.collate)


def collate_cases(batch: Sequence[Mapping[str, Any]]) -> Any:
    """MONAI's list_data_collate, for cases of which some have entries with null in them, which it fails at.

    A datalist may have more than the files: `age`, or bounds such as [[[null, 300]]]. What holds a null is left out of
    the batch; what makes bounds of it has been before.
    """
    return list_data_collate([{k: v for k, v in item.items() if not _has_null(v)} for item in batch])


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, (list, tuple)) else value is None
