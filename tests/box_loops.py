"""Bands and boxes as plain Python loops over voxels, from the text of chapter 6: what the tests compare with."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st


def bands(box: np.ndarray, spatial: tuple[int, ...], width: int) -> list[list[set[int]]]:
    """Of each axis, the lines of each band: in order, `width` at a time, empty ones up to the image's number."""
    found = []
    for (low, high), side in zip(box.tolist(), spatial):
        lines, of_axis = list(range(low, high)), []
        while len(of_axis) * width < side:
            of_axis.append(set(lines[:width]))
            lines = lines[width:]
        found.append(of_axis)
    return found


def slab_sums(s: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """sum of s over each band of each box (6.2): s (*S), boxes (J, D, 2)."""
    found = []
    for box in boxes:
        for axis, of_axis in enumerate(bands(box, s.shape, width)):
            for lines in of_axis:
                total = 0.0
                for p in product(*(range(low, high) for low, high in box.tolist())):
                    total += s[p] if p[axis] in lines else 0.0
                found.append(total)
    return np.array(found)


def inside(boxes: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(spatial)
    for p in product(*map(range, spatial)):
        mask[p] = any(all(low <= c < high for c, (low, high) in zip(p, box.tolist())) for box in boxes)
    return mask


@st.composite
def cases(draw: st.DrawFn, dims: int | None = None) -> tuple[tuple[int, ...], np.ndarray, int, int]:
    """A shape, boxes (B, K, J, D, 2) of which some are empty and some overlap, a width and a seed."""
    dims = dims or draw(st.integers(2, 3))
    spatial = tuple(draw(st.integers(3, 9)) for _ in range(dims))
    batch, classes, count = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    boxes = np.zeros((batch, classes, count, dims, 2), np.int64)
    for place in product(range(batch), range(classes), range(count)):
        if draw(st.booleans()) or place == (0, 0, 0):
            for axis, side in enumerate(spatial):
                low = draw(st.integers(0, side - 1))
                boxes[(*place, axis)] = low, draw(st.integers(low + 1, side))
    return spatial, boxes, draw(st.integers(1, 6)), draw(st.integers(0, 99))
