"""The keys of a sample and of a batch, and the one value that means "not annotated"."""

from __future__ import annotations

__all__ = [
    "ANNOTATED",
    "ARGUMENT_KEYS",
    "BORDER_WEIGHT",
    "BOXES",
    "CASE",
    "DISTANCE",
    "IMAGE",
    "INDEX",
    "LABEL",
    "LOOSE",
    "MASK",
    "PATH_KEYS",
    "PATIENT",
    "SCRIBBLE",
    "SLICE",
    "SPACING",
    "UNKNOWN",
    "VOLUME",
    "VOLUME_BOXES",
    "WEAK",
    "bounds_key",
    "predicted_key",
    "regressed_key",
    "regressor_key",
]

IMAGE = "image"
"""(C, *S) float."""
LABEL = "label"
"""(1, *S) integer classes, every voxel annotated."""
MASK = "mask"
"""(1, *S) integer classes that something else than an annotator has found, and that may be wrong."""
SCRIBBLE = "scribble"
"""(1, *S) integer classes as they are in a file, with a value of its own where nothing is annotated."""
WEAK = "weak"
"""(1, *S) integer classes, `UNKNOWN` where nothing is annotated."""
BOXES = "boxes"
"""(K, J, D, 2) voxel indices, the first and one past the last, padded with zeros."""
LOOSE = "loose"
"""(K, J) bool, the boxes that hold an object and need not touch it."""
VOLUME = "volume"
"""What the size of a whole volume is called among predictions, in mm3, beside the sizes of its slices."""
VOLUME_BOXES = "volume_boxes"
"""(K, J, 3, 2) boxes of a volume that is going to be cut in slices."""
DISTANCE = "distance"
"""(K, *S) float32 signed distance."""
BORDER_WEIGHT = "border_weight"
"""(1, *S) float32 weight of each voxel."""
ANNOTATED = "annotated"
"""Whether every voxel of a case is annotated, where only some cases are (thesis chapter 5)."""
CASE = "case"
"""The name of the volume or image that a sample comes from."""
PATIENT = "patient"
"""Who it is of; a patient may have several cases."""
SLICE = "slice"
"""The number of a slice in its volume."""
INDEX = "index"
"""The place of a sample in its data set."""
SPACING = "spacing"
"""[dx, dy, dz] of the file's voxels in mm."""

UNKNOWN = 255
"""The value of a voxel of `weak` about which nobody has said anything."""

PATH_KEYS = (IMAGE, LABEL, SCRIBBLE, MASK, BOXES)
"""The entries of a case in a datalist that hold a path or a list of paths."""

ARGUMENT_KEYS = {"boxes": BOXES, "distance": DISTANCE, "group": CASE, "image": IMAGE, "index": INDEX}
ARGUMENT_KEYS |= {"known": WEAK, "weight": BORDER_WEIGHT}
"""Where a loss finds what it needs besides its target, by the name of the argument."""


def bounds_key(name: str) -> str:
    """Where a batch has the bounds (K, M, 2) of the constraint of this name."""
    return f"{name}_bounds"


def predicted_key(name: str) -> str:
    """Where a case of a datalist has what a regressor predicted, a list over slices of K lists of M numbers in mm2."""
    return f"{name}_predicted"


def regressed_key(name: str) -> str:
    """Where it has the bounds made of them (thesis 5.3), a list over slices of K lists of M pairs in mm2."""
    return f"{name}_regressed"


def regressor_key(name: str) -> str:
    """Where it may have the checksum of the regressor."""
    return f"{name}_regressor"
