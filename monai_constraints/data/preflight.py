"""What can be known to be wrong before a training starts, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from monai_constraints.data.checks import check_model, check_output_dir
from monai_constraints.data.loading import case_name
from monai_constraints.keys import IMAGE, PATH_KEYS, PATIENT

__all__ = ["Preflight", "check_rows"]

MAX_LINES = 8


class Preflight:
    """Refuses a training, before anything is read or written, for reasons that would break or spoil it later.

    The folder takes files; both lists have cases, whose files are there; no case, patient or file is in both lists, nor
    a case or an image twice in one; the rows go together; initial weights fit; the network takes the slices and gives
    one channel a class. What is inside of the files `CachedSlices` checks when it reads them, and `check_contents`.

    Args:
        training, validation: the cases, dicts of paths.
        output_dir: where the run writes.
        network: as it is trained.
        shape: (C, *S) of the images that it gets, without the batch.
        class_names: of the foreground classes.
        rows: what overlays say of themselves: `name`; `needs`, one that comes before; `not_with`, names with the
            reason why not.
        initial_weights: a file, or "".
        outputs: what the network gives for one sample; None: background and a channel a class on the image's grid.

    Raises:
        ValueError: with the first kind of fault; FileNotFoundError, OSError for files and folders.
    """

    def __init__(
        self,
        *,
        training: Sequence[Mapping[str, Any]],
        validation: Sequence[Mapping[str, Any]],
        output_dir: str,
        network: nn.Module,
        shape: Sequence[int],
        class_names: Sequence[str],
        rows: Sequence[Mapping[str, Any]] = (),
        initial_weights: str = "",
        outputs: Sequence[int] | None = None,
    ) -> None:
        self.lists = {"training": training, "validation": validation}
        self.output_dir, self.network, self.shape = output_dir, network, tuple(shape)
        self.class_names, self.rows, self.initial_weights = tuple(class_names), rows, initial_weights
        self.outputs = None if outputs is None else tuple(outputs)

    def __call__(self) -> None:
        """Check everything, the cheapest first."""
        check_rows(self.rows)
        for name, items in self.lists.items():
            if not items:
                raise ValueError(f"Preflight: the {name} list is empty; check the folder, the datalist and its key")
        self.check_files()
        self.check_leaks()
        if self.initial_weights:
            check_model(self.initial_weights, self.network, option="--initial_weights")
        self.check_network()
        check_output_dir(self.output_dir)

    def check_files(self) -> None:
        """The files of all cases are there."""
        lines = [
            f"case {case_name(item)}, {key}, {path}: no such file"
            for items in self.lists.values()
            for item in items
            for key, path in _paths(item)
            if not os.path.isfile(path)
        ]
        if lines:
            more = [f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
            listed = "\n".join(lines[:MAX_LINES] + more)
            raise FileNotFoundError(f"Preflight: {listed}\nrestore them, or correct the datalist")

    def check_leaks(self) -> None:
        """No case or image twice, and no case, patient or file of the training in the validation.

        That an image is there under another name shows when it is read (`check_contents`).
        """
        for name, items in self.lists.items():
            cases = [case_name(item) for item in items]
            twice = sorted({case for case in cases if cases.count(case) > 1})
            if twice:
                raise ValueError(f"Preflight: {twice[0]} is twice in the {name} list; give each case its own name")
            seen: dict[str, str] = {}
            for case, path in ((case, path) for case, item in zip(cases, items) for path in _files(item, IMAGE)):
                if path in seen:
                    raise ValueError(
                        f"Preflight: {path} is twice in the {name} list, of {seen[path]} and of {case}; correct one "
                        "of them"
                    )
                seen[path] = case
        for what, of in (("case", case_name), ("patient", lambda item: item.get(PATIENT))):
            found = [{str(of(item)) for item in items if of(item) not in (None, "")} for items in self.lists.values()]
            both = sorted(found[0] & found[1])
            if both:
                raise ValueError(
                    f"Preflight: {what} {both[0]} is in the training and in the validation; correct the split"
                )
        files = [{path for item in items for path in _files(item, *PATH_KEYS)} for items in self.lists.values()]
        for path in sorted(files[0] & files[1]):
            raise ValueError(f"Preflight: {path} is in the training and in the validation; correct the split")

    def check_network(self) -> None:
        """The network takes the images and gives the background and one channel a class."""
        parameter = next(self.network.parameters(), torch.zeros(()))
        training = self.network.training
        try:
            with torch.no_grad():
                found = tuple(self.network.eval()(torch.zeros(1, *self.shape, device=parameter.device)).shape)
        except (RuntimeError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise ValueError(
                f"Preflight: network_def takes no images (C, *S) = {self.shape} ({reason}); choose a spatial_size that "
                "it can halve as often as it does, and its number of input channels"
            ) from error
        finally:
            self.network.train(training)
        expected = (1, *(self.outputs or (1 + len(self.class_names), *self.shape[1:])))
        if found != expected:
            what = f"background and {self.class_names}, on the grid of the image" if self.outputs is None else "(K, M)"
            raise ValueError(
                f"Preflight: network_def gives {found}, expected {expected}: {what}; correct its output channels, or "
                "class_names"
            )


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every row goes with every other, and each is given once.

    Raises:
        ValueError: they do not.
    """
    names = [row["name"] for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Preflight: the row {name} is given twice; name it once")
    for place, row in enumerate(rows):
        if "needs" in row and row["needs"] not in names[:place]:
            raise ValueError(f"Preflight: the row {row['name']} goes after {row['needs']}; give that one before it")
        for other, reason in row.get("not_with", {}).items():
            if other in names:
                raise ValueError(
                    f"Preflight: the row {row['name']} does not go with {other}: {reason}; leave one of them out"
                )


def _paths(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(key, item[key]) for key in PATH_KEYS if key in item]
    listed = [(key, value if isinstance(value, (list, tuple)) else [value]) for key, value in found]
    return [(key, str(path)) for key, paths in listed for path in paths if isinstance(path, (str, os.PathLike))]


def _files(item: Mapping[str, Any], *keys: str) -> list[str]:
    """Where its files really are."""
    return [os.path.realpath(path) for key, path in _paths(item) if key in keys]
