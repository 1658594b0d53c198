"""Kinds of bad input for `evaluate` and `predict`, and of the command line itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import torch
from bad_data import RGB, flat_slices, missing_class
from bad_kind import Kind, Place, entry, rewrite, voxel, without


def run_kinds() -> Iterator[Kind]:
    """All of them."""
    for bundle in ("acdc_lv", "stroke_flair"):
        yield from _evaluations(bundle)
        yield from _predictions(bundle)
    yield from _commands()


def nan_in_the_corner(data: np.ndarray) -> np.ndarray:
    """In floats, with one voxel that is none."""
    data = data.astype(np.float32)
    data[0, 0, 0] = np.nan
    return data


def _weights(name: str, at: Place) -> None:
    model = at.out / "model.pt"
    if name == "no weights":
        model.unlink()
    elif name == "a text as weights":
        model.write_text("hello")
    else:
        torch.save({"a": torch.ones(1)} if name == "weights of another network" else [1], model)


def _evaluations(bundle: str) -> Iterator[Kind]:
    kind = partial(Kind, "evaluate", bundle=bundle, command="evaluate", after_a_run=True)
    yield kind("as it is", "")
    yield kind("in no label", "in no label of", harm=missing_class("label", "validation"))
    yield kind("NaN in the second case", "case .*: 1 voxels are NaN",
               harm=lambda at: at.edit(nan_in_the_corner, "image", "validation", 1))  # fmt: skip
    yield kind("label 7", "found 7", harm=voxel(7, np.uint8, "label", "validation"))
    yield kind("label of another shape", "shape", harm=lambda at: at.edit(lambda d: d[1:], "label", "validation", 1))
    yield kind("4D", "expected one volume",
               harm=lambda at: at.edit(lambda d: np.stack([d] * 2, -1), "image", "validation"))  # fmt: skip
    for key in ("patient", "age", "spacing", "case"):
        yield kind(f"{key} null", "", harm=entry(key, None, "validation", 1))
    yield kind("null inside of an entry", "", harm=entry("size_bounds", [[[None, 3]]], "validation"))
    yield kind("no label", r"case .*no .*label", harm=without("label", "validation", 1))
    yield kind("spacing of two numbers", "case .*, spacing", harm=entry("spacing", [1, 1], "validation", 1))
    yield kind("a case twice", "both the case", harm=lambda at: at.listed(
        lambda d: d["validation"].append(d["validation"][0])))  # fmt: skip
    yield kind("images of two axes", "", harm=flat_slices)
    for name in ("no weights", "a text as weights", "weights of another network"):
        yield kind(name, "model.pt", harm=partial(_weights, name))
    yield kind("a name that nothing reads", "nothing reads ouput_dir", {"ouput_dir": "a"})
    yield kind("no such folder", "no folder /nowhere", {"cases_dir": "/nowhere"})
    yield kind("a key that the datalist lacks", "has no key 'testing'", {"datalist_key": "testing"},
               harm=lambda at: at.listed(lambda d: None))  # fmt: skip
    yield kind("a file as output", "is a file, not a folder", {"evaluation_dir": __file__})


def _predictions(bundle: str) -> Iterator[Kind]:
    kind = partial(Kind, "predict", bundle=bundle, command="predict", after_a_run=True)

    def second(change: Any) -> Any:
        images = "*frame01.nii.gz" if bundle == "acdc_lv" else "*_flair.nii.gz"
        return lambda at: rewrite(sorted(at.root.rglob(images))[1], change)

    where = r"case \S+, image, \S+: "
    yield kind("as it is", "")
    yield kind("NaN in the second image", where + "1 voxels are NaN", harm=second(nan_in_the_corner))
    yield kind("4D", where + "shape .*expected one volume", harm=second(lambda d: np.stack([d, d], -1)))
    yield kind("complex", where + "voxels of type", harm=second(lambda d: d.astype(np.complex64)))
    yield kind("RGB", where + "voxels of type", harm=second(lambda d: np.zeros(d.shape, RGB)))
    yield kind("channels first, a slice", "", harm=second(lambda d: d[None, ..., 0]))
    yield kind("one row of voxels", where + ".*expected slices of two axes", harm=second(lambda d: d[:1, :, :1]))
    yield kind("an image of two axes", "", harm=second(lambda d: d[..., 0]))
    yield kind("a constant image", "", harm=second(lambda d: d * 0), warns="one value")
    yield kind("a damaged image", where + "truncated or not NIfTI",
               harm=lambda at: at.file("image", "training", 1).write_bytes(b"torn"))  # fmt: skip
    yield kind("two images of one name", "both the case", harm=lambda at: nib.save(
        nib.load(at.file()), str(at.file()).removesuffix(".gz")))  # fmt: skip
    yield kind("no such folder", "find_images: no", {"--images": "/nowhere"})
    yield kind("a folder without images", "find_images: no", {"--images": str(__file__).rpartition("/")[0]})
    yield kind("two modalities for one channel", "2 channel", harm=lambda at: {
        **entry("image", lambda item: [item["image"], item["label"]], "validation")(at),
        "datalist_key": "validation"})  # fmt: skip
    yield kind("null inside of an entry", "", harm=lambda at: {
        **entry("notes", {"a": [None]}, "validation")(at), "datalist_key": "validation"})  # fmt: skip
    yield kind("null entries", "", harm=lambda at: {
        **entry("patient", None, "validation")(at), "datalist_key": "validation"})  # fmt: skip
    yield kind("a file as output", "is a file, not a folder", {"output_dir": __file__})
    for name in ("no weights", "a text as weights", "weights of another network", "a list as weights"):
        yield kind(name, "model.pt", harm=partial(_weights, name))
    yield kind("a name that nothing reads", "nothing reads veiws", {"veiws": False})
    yield kind("no configuration", "is of another network", harm=lambda at: (at.out / "config.yaml").unlink())
    yield kind("an empty folder", "is not the folder of a run", harm=lambda at: [shutil.rmtree(at.out), at.out.mkdir()])


def _commands() -> Iterator[Kind]:
    for name, words, arguments in (
        ("a bundle that is not there", "neither a folder .* nor one of the bundles", ["train", "acdc_rv"]),
        ("a row that is not there", "its rows are", ["train", "acdc_lv", "--rows", "tagz"]),
        ("a command that is not there", "invalid choice", ["trian", "acdc_lv"]),
        ("no bundle", "the following arguments are required", ["train"]),
        ("an argument too many", "belongs to no option", ["train", "acdc_lv", "acdc"]),
        ("an option twice", "is given twice", ["train", "acdc_lv", "--seed", "1", "--seed", "2"]),
        ("a file of configuration", "is made from the bundle", ["train", "acdc_lv", "--config_file", "a"]),
        ("no run", "is not the folder of a run", ["evaluate", "nowhere"]),
        ("no images", "the following arguments are required: --images", ["predict", "nowhere"]),
        ("a copy onto something", "is there already", ["copy", "acdc_lv", str(__file__).rpartition("/")[0]]),
        ("an unknown bundle to list", "neither a folder", ["bundles", "acdc_rv"]),
    ):  # fmt: skip
        yield Kind("command", name, words, {"--arguments": arguments}, command="")
