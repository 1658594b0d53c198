"""The data loader of cached slices: the order of the samples, and stacked batches."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from monai_constraints.data.cached_slices import CachedSlices
from monai_constraints.data.mixed_slices import MixedSlices
from monai_constraints.data.samplers import GroupBatchSampler, MixedSampler, epoch_sampler

__all__ = ["slice_loader"]


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
        volumes: a batch is all slices of a volume, for constraints that these share (thesis 2.4.4).

    Raises:
        TypeError: `volumes` of a data set that does not say which slices are of one volume.
    """
    if volumes:
        cases = getattr(dataset, "cases", None)
        if cases is None:
            raise TypeError(f"slice_loader: {type(dataset).__name__} has no cases; volumes=True takes CachedSlices")
        batches = GroupBatchSampler(cases, shuffle=shuffle, seed=seed)
        return DataLoader(dataset, batch_sampler=batches, collate_fn=CachedSlices.collate)
    sampler: Sampler[int] = epoch_sampler(dataset, shuffle=shuffle, seed=seed, even=shuffle)
    if shuffle and isinstance(dataset, MixedSlices):
        sampler = MixedSampler(dataset.annotated, share=dataset.share, samples=dataset.samples, seed=seed)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=CachedSlices.collate)
