"""Bounds and weak labels from boxes, of a sample or, after the augmentation, of a batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform
from torch import Tensor

from ...constraints import BoxRule, SlabSums, Statistic, slab_bounds
from ...constraints.intervals import box_mask
from ...constraints.plain import plain
from ...keys import BOXES, IMAGE, LABEL, LOOSE, PATIENT, UNKNOWN, WEAK, bounds_key

__all__ = ["BoxBoundsd", "BoxToWeakd", "slab_fill"]


class BoxBoundsd(Transform):
    """Bounds of a statistic from the boxes: `<name>_bounds`, (K, M, 2) of a sample, (B, K, M, 2) of a batch.

    Put it behind the transform that makes the boxes, and tight bands once more behind the augmentation of the batch: a
    mirrored box has its narrow band at the other end. There, a box that bounded nothing before goes on to bound
    nothing, which is how loose boxes and fully annotated cases stay free. Sizes and emptiness move along with the image
    (`BatchSimilarity(bounds=...)`).

    Args:
        statistic: f, the same object as in the loss; rules speak of what is under its root.
        rule: `Tight`, `Empty` or `BoxSize`.
        name: the entry is `<name>_bounds`.
        image_key: for the shape.

    Raises:
        KeyError: the sample has no boxes or no image.
        ValueError: for boxes that are not (K, J, D, 2), or of another number of classes than the statistic.
    """

    def __init__(self, statistic: Statistic, rule: BoxRule, name: str, *, image_key: str = IMAGE) -> None:
        self.statistic, self.rule, self.key, self.image_key = statistic, rule, bounds_key(name), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        boxes, spatial = _boxes(data, self.image_key, "BoxBoundsd")
        single = boxes.ndim == 4
        boxes = boxes[None] if single else boxes
        classes = self.statistic.classes
        if classes is not None and len(classes) != boxes.shape[1]:
            raise ValueError(
                f"BoxBoundsd: boxes of K={boxes.shape[1]} classes, the statistic has classes={list(classes)}; make the "
                "boxes of these"
            )
        loose = data.get(LOOSE)
        loose = torch.zeros(boxes.shape[:3], dtype=torch.bool, device=boxes.device) if loose is None else plain(loose)
        bounds = self.rule(self.statistic.ruled, boxes, spatial, loose.expand(boxes.shape[:3]))
        bounds = self.statistic.link(bounds)
        if not single and self.key in data:
            bounds = _as_free(bounds, plain(data[self.key]), boxes.shape[2])
        return {**data, self.key: bounds[0] if single else bounds}


class BoxToWeakd(Transform):
    """The weak label that boxes give: background outside of all of them, unknown (255) inside.

    `PartialCrossEntropy` of it is the masked cross-entropy -sum_{p in Omega_O} log(1 - s_p), over the voxels outside.

    Args:
        inside: "unknown"; "class": the box itself as the label, where boxes of several classes overlap the smaller
            one, the baseline that all else is compared with; "ellipse": the ellipse (ellipsoid) that the box just
            holds is the label, again the smaller one on top, and unknown what else is in a box. A rough first label
            to start a training with: of a ring around a disc it makes a ring.
        margin: by how many voxels boxes are too large on each side; the ellipse is that of the box without them.
        output: key of the (1, *S) uint8 map.
        image_key: for the shape.

    Raises:
        KeyError: the sample has no boxes or no image.
        ValueError: for another word.
    """

    def __init__(
        self, *, inside: str = "unknown", margin: int = 0, output: str = WEAK, image_key: str = IMAGE
    ) -> None:
        if inside not in ("unknown", "class", "ellipse"):
            raise ValueError(f"BoxToWeakd: inside={inside!r}; choose 'unknown', 'class' or 'ellipse'")
        if margin < 0 or (margin and inside != "ellipse"):
            raise ValueError(f"BoxToWeakd: margin={margin} of inside={inside!r}; expected 0, or more of an ellipse")
        self.inside, self.margin, self.output, self.image_key = inside, margin, output, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        boxes, spatial = _boxes(data, self.image_key, "BoxToWeakd")
        weak = torch.zeros(spatial, dtype=torch.uint8, device=boxes.device)
        if self.inside != "class":
            weak[box_mask(boxes, spatial).amax(0) > 0] = UNKNOWN
        if self.inside != "unknown":
            area = (boxes[..., 1] - boxes[..., 0]).prod(-1)
            for place in area.flatten().argsort(descending=True).tolist():
                k, j = divmod(place, boxes.shape[1])
                inside = weak[tuple(slice(low, high) for low, high in boxes[k, j].tolist())]
                inside[_ellipse(inside.shape, self.margin, weak.device) if self.inside == "ellipse" else ...] = k + 1
        return {**data, self.output: weak[None]}


def _ellipse(shape: Sequence[int], margin: int, device: torch.device) -> Tensor:
    """The voxels of a box of this shape whose centres lie in the ellipsoid that it just holds without its margin."""
    squares = torch.zeros(*shape, device=device)
    for axis, size in enumerate(shape):
        half = max(size / 2 - margin, 1 - size % 2 / 2)  # thinner than its margins: the one or two in the middle
        along = (torch.arange(size, device=device) + (1 - size) / 2) / half
        squares = squares + along.square().reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return squares <= 1


def slab_fill(
    samples: Iterable[Mapping[Hashable, Any]],
    statistic: SlabSums,
    *,
    patients: Sequence[str],
    quantile: float = 0.05,
    margin: int = 0,
    patient_key: str = PATIENT,
    source: str = LABEL,
) -> list[float]:
    """Which part of a band is object at least, of each class: the `fill` of `Tight`, from a few annotated patients.

    Args:
        samples: the training samples as the network sees them, with boxes and a label.
        statistic: the bands, with classes=[...].
        patients: whose samples count, by their entry `patient_key`.
        quantile: of the bands' fills; the bound holds in all others.
        margin: as in `Tight`.
        source: the label (1, *S).

    Raises:
        ValueError: where a patient has no sample, or a class no band.
    """
    chosen = [sample for sample in samples if sample.get(patient_key) in set(patients)]
    missing = sorted(set(patients) - {sample[patient_key] for sample in chosen})
    if missing or not chosen:
        raise ValueError(f"slab_fill: no sample has {patient_key} in {missing}; choose among the training patients")
    classes = statistic.classes or ()
    fills: list[list[Tensor]] = [[] for _ in classes]
    for sample in chosen:
        label, boxes = plain(torch.as_tensor(sample[source])), plain(sample[BOXES])[None]
        mask = torch.cat([label == k for k in classes])[None].float()
        bands = SlabSums(width=statistic.width)(mask, boxes=boxes)[0]
        whole = slab_bounds(boxes, label.shape[1:], statistic.width, fill=1.0, margin=margin)[0, ..., 0]
        for k, (mass, voxels) in enumerate(zip(bands, whole)):
            fills[k].append((mass / voxels)[voxels.isfinite()])
    joined = [torch.cat(of_class) for of_class in fills]
    absent = [k for k, of_class in zip(classes, joined) if not len(of_class)]
    if absent:
        raise ValueError(f"slab_fill: classes {absent} have no box in {list(patients)}; choose other patients")
    return [float(of_class.quantile(quantile).clamp(0, 1)) for of_class in joined]


def _boxes(data: Mapping[Hashable, Any], image_key: str, name: str) -> tuple[Tensor, tuple[int, ...]]:
    missing = [key for key in (BOXES, image_key) if key not in data]
    if missing:
        raise KeyError(f"{name}: the sample lacks {missing}, it has {sorted(map(str, data))}; make the boxes before")
    boxes, image = plain(torch.as_tensor(data[BOXES])), data[image_key]
    spatial = tuple(image.shape[boxes.ndim - 3 :])
    if boxes.ndim not in (4, 5) or boxes.shape[-1] != 2 or boxes.shape[-2] != len(spatial):
        raise ValueError(
            f"{name}: boxes {tuple(boxes.shape)} do not fit the image {tuple(image.shape)}; expected (K, J, D, 2)"
        )
    return boxes, spatial


def _as_free(bounds: Tensor, before: Tensor, boxes: int) -> Tensor:
    """Infinite bounds for the boxes that had none before."""
    count = boxes if bounds.shape[2] % boxes == 0 else 1
    bound = before.isfinite().unflatten(2, (count, -1)).flatten(3).any(-1)
    free = torch.tensor([-float("inf"), float("inf")], device=bounds.device)
    return torch.where(bound[..., None, None], bounds.unflatten(2, (count, -1)), free).flatten(2, 3)
