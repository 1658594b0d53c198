"""The annotated slices of a list of cases, or whole volumes, in memory: what a training draws its batches from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import list_data_collate
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from monai_constraints.data.contents import digests
from monai_constraints.data.loading import without_nulls
from monai_constraints.data.readable import check_occurs, classes_in, listed_problems, read_case
from monai_constraints.data.volume_file import CaseError
from monai_constraints.keys import CASE, IMAGE, INDEX, LABEL, PATIENT, SCRIBBLE, SLICE, SPACING

__all__ = ["CachedSlices"]

logger = logging.getLogger(__name__)

Transform = Callable[[Any], Any]


class CachedSlices(Dataset[dict[str, Any]]):
    """Cases in, annotated slices out.

    Every file is read once, here, by two threads: `transform` reads and checks a case (`LoadCased`) and brings it to
    the grid of the network; its slices are annotated, and kept on the device. What is wrong with any case is listed
    with all others. Slices of one shape are kept as one tensor a key, so that a batch is an index operation.

    Args:
        data: the cases, dicts of paths; `case` may be missing. Where `keys` has a scribble, a case with a label alone
            is annotated whole: its label stands for it.
        transform: from paths to volumes (C, X, Y, Z) without anything random.
        keys: the entries to cut.
        annotate: transforms of a slice, such as weak labels and bounds, in order; nothing random.
        augment: a random transform of a slice, at each access. Changes of whole batches are faster (`PrepareTargets`).
        drop: entries that are not needed once a slice is annotated.
        axis: spatial axis to cut along, from the end: -1 is Z. None: nothing is cut, and each case is one item, its
            volumes (C, X, Y, Z), for networks of three dimensions.
        classes: names of the foreground classes that have to occur in each of `label` and `scribble` that is among the
            keys; empty: none has to.
        device: where the slices are kept.
        progress: a bar.

    Attributes:
        cases: the case of every slice, the `groups` of a GroupBatchSampler or of Oversampled.
        contents: each case with what its image holds, by which `check_contents` finds an image again.

    An item has the keys, what `annotate` added as tensors, `case`, `patient`, `index`, `slice` unless it is a whole
    volume, and `spacing` where the case has one. Pass `collate` to the data loader.

    Raises:
        ValueError: no cases, problems of cases (at most 20 lines), a case twice, a class that never occurs, or entries
            that only some slices have.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Transform,
        *,
        keys: Sequence[str] = (IMAGE, LABEL),
        annotate: Sequence[Transform] = (),
        augment: Transform | None = None,
        drop: Sequence[str] = (),
        axis: int | None = -1,
        classes: Sequence[str] = (),
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        if not data:
            raise ValueError("CachedSlices: no cases; check the folder, the datalist and its key")
        self.transform, self.keys, self.annotate = transform, tuple(keys), list(annotate)
        self.augment, self.drop, self.axis, self.device = augment, tuple(drop), axis, torch.device(device)
        data = [without_nulls(case) for case in data]
        self.data = [self._annotated(case) for case in data]
        whole = sum(SCRIBBLE in case and SCRIBBLE not in given for case, given in zip(self.data, data))
        if whole:
            message = "CachedSlices: %d of %d cases have no scribble; their label says it of every voxel"
            logger.info(message, whole, len(data))
        self.contents: list[tuple[str, list[bytes]]] = []
        items, seen = self._load(progress)
        check_occurs(classes, seen, len(data), "CachedSlices")
        self.cases: list[str] = [item[CASE] for item in items]
        self._texts = {key: [item.pop(key) for item in items] for key in (CASE, PATIENT)}
        self._items: list[dict[str, Any]] | None = items
        self._stacks: dict[str, Tensor] = {}
        self._check_same(items)
        shapes = {tuple((key, tuple(value.shape)) for key, value in item.items()) for item in items}
        if len(shapes) == 1:
            # One key after the other, so that never twice the whole is in memory.
            self._stacks = {key: torch.stack([item.pop(key) for item in items]) for key in list(items[0])}
            self._items = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]  # negative positions, and IndexError where iteration ends
        own = {k: v[index] for k, v in self._stacks.items()} if self._items is None else dict(self._items[index])
        item = {**own, **{key: texts[index] for key, texts in self._texts.items()}}
        item |= {key: int(item[key]) for key in (SLICE, INDEX) if key in item}
        return item if self.augment is None else self.augment(item)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """A batch for the data loader: stacked already, where nothing random is done to single slices."""
        if self._items is not None or self.augment is not None:
            return [self[index] for index in indices]
        chosen = torch.as_tensor(indices, device=self.device)
        batch: dict[str, Any] = {key: stack[chosen] for key, stack in self._stacks.items()}
        return batch | {key: [texts[index] for index in indices] for key, texts in self._texts.items()}

    def replace(self, key: str, values: Sequence[Tensor] | Tensor) -> None:
        """Give every slice another value of an entry that it has, such as proposals in place of a weak label.

        Workers of a data loader that are running have copies of their own, and do not see it.

        Args:
            key: of a tensor.
            values: one a slice, in the order of the slices, each as large as what it replaces.

        Raises:
            KeyError: the slices have no such tensor.
            ValueError: another number of values, or another shape.
        """
        old: Any = self._stacks.get(key) if self._items is None else [item.get(key) for item in self._items]
        if old is None or any(one is None for one in old[:1]):
            raise KeyError(f"CachedSlices: no {key!r} to replace; a slice has {sorted(self[0])}")
        expected, given = [[tuple(one.shape) for one in these] for these in (old, values)]
        if expected != given:
            differing = [i for i, (a, b) in enumerate(zip(expected, given)) if a != b][:1]
            raise ValueError(
                f"CachedSlices: {len(given)} values for {key!r} of {len(expected)} slices, the first of another shape "
                f"at {differing}; give one a slice, in the shape of the old"
            )
        for i, value in enumerate(values):
            old[i] = value.to(old[i])
        for item, value in zip(self._items or (), old):
            item[key] = value

    @staticmethod
    def collate(batch: Any) -> Any:
        """What `__getitems__` gave, stacked or not, as a batch."""
        return batch if isinstance(batch, dict) else list_data_collate(batch)

    def _load(self, progress: bool) -> tuple[list[dict[str, Any]], dict[str, set[int]]]:
        items: list[dict[str, Any]] = []
        seen: dict[str, set[int]] = {key: set() for key in (LABEL, SCRIBBLE) if key in self.keys}
        problems: list[str] = []
        with ThreadPoolExecutor(2) as pool:
            running = pool.map(self._case, self.data)
            for found in tqdm(running, total=len(self.data), desc="reading", disable=not progress):
                if isinstance(found, CaseError):
                    problems += found.problems
                    continue
                case, slices, classes, content = found
                if case in (name for name, _ in self.contents):
                    problems.append(f"case {case}: occurs twice; give every case a name of its own")
                self.contents.append((case, content))
                for key in seen:
                    seen[key] |= classes[key]
                items += slices
        if problems:
            raise ValueError(f"CachedSlices: {listed_problems(problems, len(self.data))}")
        for index, item in enumerate(items):
            item[INDEX] = torch.tensor(index)
        return items, seen

    def _annotated(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """A case that is annotated whole needs no scribble: its label is one."""
        needed = SCRIBBLE in self.keys and SCRIBBLE not in item and LABEL in item
        return {**item, SCRIBBLE: item[LABEL]} if needed else item

    def _case(
        self, item: Mapping[str, Any]
    ) -> CaseError | tuple[str, list[dict[str, Any]], dict[str, set[int]], list[bytes]]:
        """Name, slices, classes of each label, and contents of the image."""
        volume = read_case(item, self.transform, self.keys)
        if isinstance(volume, CaseError):
            return volume
        case, grid = str(volume[CASE]), tuple(volume[self.keys[0]].shape[1:])
        classes = {key: classes_in(volume, key) for key in (LABEL, SCRIBBLE) if key in self.keys}
        shared: dict[Hashable, Any] = {
            k: _plain(value) for k, value in volume.items() if tuple(getattr(value, "shape", ()))[1:] != grid
        }
        shared[PATIENT] = str(volume.get(PATIENT) or case)
        numbers = [None] if self.axis is None else range(grid[self.axis])
        slices = [self._item(volume, shared, number) for number in numbers]
        return case, slices, classes, digests(volume[IMAGE]) if IMAGE in self.keys else []

    def _item(self, volume: Mapping[str, Any], shared: Mapping[Hashable, Any], number: int | None) -> dict[str, Any]:
        """The slice of this number, or the whole volume."""
        item: dict[Any, Any] = {**shared, **({} if number is None else {SLICE: number})}
        for key in self.keys:
            found = _plain(volume[key])
            if self.axis is not None:
                found = found.select(self.axis if self.axis < 0 else self.axis + 1, number)
            # A view of a slice would keep the whole volume alive.
            item[key] = found.clone(memory_format=torch.contiguous_format)
        for transform in self.annotate:
            item = transform(item)
        kept = {key: _plain(value) for key, value in item.items() if key not in self.drop}
        texts = {CASE: str(item[CASE]), PATIENT: item[PATIENT]}
        tensors = {key: value.to(self.device) for key, value in kept.items() if isinstance(value, Tensor)}
        if number is not None:
            tensors[SLICE] = torch.tensor(number)
        if item.get(SPACING) is not None:
            tensors[SPACING] = torch.as_tensor(item[SPACING], dtype=torch.float32)
        return {**tensors, **texts}

    def _check_same(self, items: Sequence[Mapping[str, Any]]) -> None:
        for case, item in zip(self.cases, items):
            differing = sorted(set(item) ^ set(items[0]))
            if differing:
                raise ValueError(
                    f"CachedSlices: {differing} is in a slice of {case} or of {self.cases[0]}, not in both; give it to "
                    "all cases or to none"
                )


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value
