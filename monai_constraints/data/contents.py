"""The same image under two names, which spoils a split without a trace in the names."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_contents", "digests"]

logger = logging.getLogger(__name__)


def digests(image: Any) -> list[bytes]:
    """A number for the contents of each channel of an image (C, *S); none for a channel of one value.

    It is taken of the image as the network gets it, so another compression or number type changes nothing. A hundred
    megabytes take a tenth of a second.
    """
    channels = torch.as_tensor(image).as_subclass(Tensor).cpu()
    informative = [one.contiguous() for one in channels if bool(one.min() < one.max())]
    return [hashlib.blake2b(one.numpy().tobytes(), digest_size=16).digest() for one in informative]


def check_contents(training: Any, validation: Any) -> None:
    """Refuse a training whose images are also validated on, or come twice in it, whatever their files are called.

    A step of `initialize` that reads the data. Within the validation, one image of two cases is a warning with both:
    nothing is learned from it, it only counts twice (patients 074 and 076 of ACDC are one heart).

    Args:
        training, validation: data sets that know their images by `contents`, such as `CachedSlices`; others pass.

    Raises:
        ValueError: with the pair.
    """
    known, checked = (getattr(data, "contents", []) for data in (training, validation))
    for one, other in _pairs(known, known):
        raise ValueError(
            f"check_contents: {one} and {other} of the training have the same image; leave one of them out"
        )
    for one, other in _pairs(known, checked):
        raise ValueError(
            f"check_contents: {one} of the training and {other} of the validation have the same image; leave one of "
            "them out"
        )
    for one, other in _pairs(checked, checked):
        message = "check_contents: %s and %s of the validation have the same image, which counts twice"
        logger.warning(message, one, other)


def _pairs(
    first: Sequence[tuple[str, Sequence[bytes]]], second: Sequence[tuple[str, Sequence[bytes]]]
) -> Iterator[tuple[str, str]]:
    """Cases that share the contents of a channel, in the order of the lists; in one list, each pair once."""
    owners: dict[bytes, list[str]] = {}
    same = first is second
    for case, own in () if same else first:
        for digest in own:
            owners.setdefault(digest, []).append(case)
    for case, own in second:
        yield from ((other, case) for other in dict.fromkeys(one for digest in own for one in owners.get(digest, [])))
        for digest in own if same else ():
            owners.setdefault(digest, []).append(case)
