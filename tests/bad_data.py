"""Kinds of bad data that a training is given: files, values, shapes, spacing, entries of a datalist, leaks."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from bad_kind import Harm, Kind, Place, entry, rewrite, voxel, without

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def other_file(name: str, data: np.ndarray, affine: np.ndarray, key: str = "image") -> Harm:
    """In the place of a case's file, another one."""

    def harm(at: Place) -> dict[str, str]:
        path = at.root / name
        nib.save(nib.Nifti1Image(data, affine), path)
        return entry(key, str(path))(at)

    return harm


def copied(change: str, *, part: str = "validation", number: int = 0, to: str = "training", at_: int = 1) -> Harm:
    """The image of one case is, changed a little, that of another one too."""

    def harm(at: Place) -> None:
        source, target = at.file("image", part, number), at.file("image", to, at_)
        cases = at.cases()
        for key, value in cases[part][number].items():
            pairs = zip(*(x if isinstance(x, list) else [x] for x in (value, cases[to][at_][key])))
            for path, other in pairs:
                if key in ("image", "label", "scribble") and path != str(source):
                    shutil.copy(path, other)
        target.unlink()
        if change == "link":
            target.symlink_to(source)
        elif change == "packed otherwise":
            target.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()), compresslevel=1))
        else:
            shutil.copy(source, target)
            if change == "in floats":
                rewrite(target, lambda data: data.astype(np.float32))

    return harm


def missing_class(key: str, *parts: str) -> Harm:
    """The left ventricle, or the lesion, is in no label of these lists."""

    def harm(at: Place) -> None:
        for part in parts:
            for number in range(len(at.cases()[part])):
                at.edit(lambda data: np.where(data == (1 if at.bundle != "acdc_lv" else 3), 0, data), key, part, number)

    return harm


def flat_slices(at: Place) -> dict[str, str]:
    """All cases are the first slices of their files, saved as images of two axes."""
    for part, items in at.cases().items():
        for number, item in enumerate(items):
            for key in item.keys() & {"image", "label", "scribble"}:
                path = at.file(key, part, number)
                file = nib.load(path)
                nib.save(nib.Nifti1Image(np.asarray(file.dataobj)[..., 0], file.affine), path)  # type: ignore
    return at.listed(lambda datalist: [item.pop("spacing") for items in datalist.values() for item in items])


def channels_first(at: Place) -> dict[str, str]:
    """A case of one slice, with an axis of length 1 before the others."""
    for key in ("image", "label", "scribble"):
        at.edit(lambda d: d[None, ..., 0], key)
    return at.listed(lambda datalist: datalist["training"][0].pop("spacing"))


def strokes(at: Place) -> dict[str, object]:
    """Training cases with strokes of the structure alone, and 255 elsewhere (docs/own_data.md)."""
    for number in range(2):
        at.edit(lambda data: np.where(data == 3, 3, 255), "scribble", "training", number)
    other = {"training": "label", "validation": "scribble"}
    given = at.listed(lambda datalist: [item.pop(other[part]) for part, items in datalist.items() for item in items])
    return {**given, "unknown": 255, "size_rule#lower": 2, "size_rule#upper": 60}


def data_kinds() -> Iterator[Kind]:
    """All of them."""
    for bundle in ("acdc_lv", "stroke_flair", "wmh"):
        yield from _files(bundle)
        yield from _structures(bundle)
        yield from _leaks(bundle)
    yield from _values()
    yield from _shapes()
    yield from _entries()
    yield from _spacing()
    yield from _warned()


def _files(bundle: str) -> Iterator[Kind]:
    kind = partial(Kind, "files", bundle=bundle)
    several = bundle == "wmh"
    where = r"case \S+, (image|label), \S+: "
    torn = where + r"truncated|_datalist: \S+ is truncated"
    for name, harm, words in (
        ("a cut image", lambda at: at.file().write_bytes(at.file().read_bytes()[:500]), torn),
        ("an empty label", lambda at: at.file("label").write_bytes(b""), torn),
        ("a text as an image", lambda at: at.file().write_text("hello"), torn),
        ("NaN", voxel(np.nan, np.float32), where + "1 voxels are NaN or infinite"),
        ("complex", lambda at: at.edit(lambda d: d.astype(np.complex64)), where + "voxels of type complex64"),
        ("RGB", lambda at: at.edit(lambda d: np.zeros(d.shape, RGB)), where + "voxels of type"),
        ("4D", lambda at: at.edit(lambda d: np.stack([d, d], -1)), where + r"shape \(.*, 2\), expected one volume"),
        ("label 7", voxel(7, np.uint8, "label"), where + r"expected integers 0..\d, found 7"),
        ("label of other shape", lambda at: at.edit(lambda d: d[:-1], "label"), where + r"shape .*resample|.* shape"),
        ("as it is", None, ""),
    ):
        if several and name == "label of other shape":
            words = "shape"  # the command that makes the datalist sees it
        yield kind(name, words, harm=harm)


def _structures(bundle: str) -> Iterator[Kind]:
    kind = partial(Kind, "structures", bundle=bundle)
    for wrong in (9, 0, -1, []):
        yield kind(f"structure {wrong}", "OneStructured: structure=.*; choose among the classes", {"structure": wrong})
    words = "CachedSlices: .* in no label of"
    yield kind("in no validation label", words, harm=missing_class("label", "validation"))
    yield kind("in no training label", words, harm=missing_class("label", "training"))
    yield kind("in no label", words, harm=missing_class("label", "training", "validation"))
    if bundle == "acdc_lv":
        rows = {"--rows": ["scribbles"], "size_rule#lower": 2, "size_rule#upper": 60}
        yield kind("in no scribble", "CachedSlices: left ventricle in no scribble of 2 cases", rows,
                   harm=missing_class("scribble", "training"))  # fmt: skip


def _leaks(bundle: str) -> Iterator[Kind]:
    kind = partial(Kind, "leaks", bundle=bundle)
    for change in ("copied", "packed otherwise", "in floats", "link"):
        words = "check_contents: .* of the training and .* of the validation have the same image"
        linked = "Preflight: .* is in the training and in the validation"
        yield kind(f"an image of both lists, {change}", words if change != "link" else linked, harm=copied(change))
        words = "check_contents: .* and .* of the training have the same image"
        linked = "Preflight: .* is twice in the training"
        yield kind(f"an image twice in the training, {change}", words if change != "link" else linked,
                   harm=copied(change, part="training"))  # fmt: skip
    yield kind("an image twice in the validation", "", harm=copied("copied", to="validation"),
               warns="same image")  # fmt: skip
    words = r"Preflight: .* is in the training and in the validation"

    def shared(key: str, part: str = "validation", number: int = 0, kind_of: type | None = None) -> Harm:
        return lambda at: at.listed(
            lambda lists: lists[part][number].update(
                {key: lists["training"][1][key] if kind_of is None else kind_of(lists["training"][1][key])}
            )
        )

    yield kind("a case in both", words, harm=shared("case"))
    yield kind("a case twice", r"Preflight: .* is twice in the training", harm=shared("case", "training"))
    yield kind("a patient in both", words, harm=shared("patient"))
    yield kind("a label's file in both", words, harm=shared("label"))
    yield kind("an image's file twice", "Preflight: .* twice in the training", harm=shared("image", "training"))

    def patient_7(at: Place) -> dict[str, str]:
        return at.listed(lambda d: (d["training"][0].update(patient=7), d["validation"][0].update(patient="7")))

    yield kind("a patient in both, as number and text", words, harm=patient_7)


def _values() -> Iterator[Kind]:
    kind = partial(Kind, "values")
    for value, type_ in ((-1, np.int16), (1.5, np.float32), (255, np.uint8), (4, np.uint8), (np.nan, np.float32)):
        words = rf"case .*, label, .*: expected integers 0..3, found {value:g}; correct"
        yield kind(f"label {value}", words, harm=voxel(value, type_, "label"))
        yield kind(f"label {value} of the validation", words, harm=voxel(value, type_, "label", "validation"))
    rows = {"--rows": ["scribbles"], "size_rule#lower": 2, "size_rule#upper": 60}
    for value, type_ in ((-1, np.int16), (7, np.uint8), (255, np.uint8), (0.5, np.float32)):
        words = rf"case .*, scribble, .*: expected integers 0..3 or 4, found {value:g}; correct"
        yield kind(f"scribble {value}", words, rows, harm=voxel(value, type_, "scribble"))
    yield kind("a mask of 0 and 255", "expected integers 0..1, found 255", {"structure": 1, "label_classes": 2},
               harm=lambda at: at.edit(lambda d: 255 * (d == 3).astype(np.uint8), "label"))  # fmt: skip
    yield kind("label_classes 2 of 4", "expected integers 0..1, found", {"structure": 1, "label_classes": 2})
    yield kind("a smooth label", "expected integers 0..3, found", harm=lambda at: at.edit(
        lambda d: (d + np.roll(d, 1, 0)).astype(np.float32) / 2, "label"))  # fmt: skip
    yield kind("not finite in float32", "1 voxels are NaN or infinite", harm=voxel(1e300, np.float64))
    for type_ in (np.uint8, np.int16, np.int32, np.float64, ">i2"):
        yield kind(f"a label in {np.dtype(type_).str}", "",
                   harm=lambda at, type_=type_: at.edit(lambda d: d.astype(type_), "label"))  # fmt: skip


def _shapes() -> Iterator[Kind]:
    kind = partial(Kind, "shapes")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    yield kind("a label in 4D", "expected one volume", harm=lambda at: at.edit(lambda d: np.stack([d, d], -1), "label"))
    yield kind("a fourth axis of 1", "", harm=lambda at: at.edit(lambda d: d[..., None]))
    yield kind("a line", "expected one volume of two or three axes|expected three in mm",
               harm=lambda at: at.edit(lambda d: d[:, 0, 0]))  # fmt: skip
    yield kind("one modality too many", "case .*, image, .*: 2 channel.* the network takes 1",
               harm=entry("image", lambda item: [item["image"], item["scribble"]]))  # fmt: skip
    yield kind("one modality too few", "case .*, image, .*: 1 channel.* the network takes 2", bundle="wmh",
               harm=entry("image", lambda item: item["image"][0]))  # fmt: skip
    yield kind("one modality twice", "twice", bundle="wmh", harm=entry("image", lambda item: [item["image"][0]] * 2))
    yield kind("modalities of two shapes", "shape", bundle="wmh", harm=lambda at: at.edit(lambda d: d[1:]))
    yield kind("no modality", "case .*, image: ", harm=entry("image", []))
    yield kind("channels first, a slice", "", harm=channels_first)
    yield kind("one row of voxels", "case .*, image, .*expected slices of two axes", harm=lambda at: at.edit(
        lambda d: d[:1, :, :1]))  # fmt: skip
    yield kind("images of two axes", "", harm=flat_slices)
    yield kind("images of two axes, slices along the first", "", {"slice_axis": 0}, harm=flat_slices)
    yield kind("slices along the first axis", "", {"slice_axis": 0})
    yield kind("slices along the second axis", "", {"slice_axis": 1}, bundle="wmh")
    yield kind("a label of two axes", "shape .*resample", harm=lambda at: at.edit(lambda d: d[..., 0], "label"))
    yield kind("another affine", "affine is not that of image",
               harm=lambda at: rewrite(at.file("label"), lambda d: d, np.diag([-1.0, -1.0, 2.0, 1.0])))  # fmt: skip
    for column in range(3):
        zero = affine.copy()
        zero[:, column] = 0
        yield kind(f"a column {column} of zeros in the affine", "case .*, image, .*: affine",
                   harm=partial(rewrite_both, affine=zero))  # fmt: skip
    nan = affine.copy()
    nan[0, 3] = np.nan
    yield kind("NaN in the affine", "case .*, image, .*: affine",
               harm=partial(rewrite_both, affine=nan))  # fmt: skip
    yield kind("a plane that is no grid for the network", "choose a spatial_size", {"spatial_size": [30, 31]})


def rewrite_with(path: Path, affine: np.ndarray) -> None:
    """Another affine in the header, as it is, and the voxel sizes that were there."""
    file = nib.load(path)
    header = file.header.copy()  # type: ignore[attr-defined]
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = affine[row]
    header["sform_code"], header["qform_code"] = 1, 0
    data = np.asarray(file.dataobj)  # type: ignore[attr-defined]
    raw = header.binaryblock + b"\0" * 4 + data.tobytes(order="F")
    path.write_bytes(gzip.compress(raw))


def rewrite_both(at: Place, affine: np.ndarray) -> None:
    """Another affine for all files of a case."""
    for key in ("image", "label", "scribble"):
        rewrite_with(at.file(key), affine)


def _entries() -> Iterator[Kind]:
    kind = partial(Kind, "entries")
    for part in ("training", "validation"):
        for key in ("patient", "spacing", "age", "scribble", "case"):
            yield kind(f"{key} null, {part}", "", harm=entry(key, None, part))
        for key, value in (("age", 63), ("notes", {"a": None}), ("notes", [None, 1]), ("weight", [1.5])):
            yield kind(f"{key} {value} of one case, {part}", "", harm=entry(key, value, part))
        for key in ("patient", "spacing"):
            yield kind(f"{key} of all cases but one, {part}", "", harm=without(key, part))
        for key in ("image", "label"):
            yield kind(f"{key} null, {part}", rf"case \S+(, {key}|: no {key})", harm=entry(key, None, part))
            yield kind(f"no {key}, {part}", rf"case \S+(, {key}|: no {key})", harm=without(key, part))
            yield kind(f"{key} a number, {part}", rf"case \S+, {key}: 5, expected a path", harm=entry(key, 5, part))
            yield kind(f"{key} nowhere, {part}", "no such file", harm=entry(key, "/no.nii.gz", part))
    yield kind("patient null, two patients asked for", "", {"train_count": 2}, harm=lambda at: at.listed(
        lambda d: [item.update(patient=None) for item in d["training"]]))  # fmt: skip
    yield kind("a case without a name", "", harm=entry("case", ""))
    yield kind("patients that are not there", "choose_cases: count is 99, the list has 2", {"train_count": 99})
    yield kind("no patients", "choose_cases: count is 0", {"train_count": 0})
    yield kind("an item that is no dict", "must be a list of dicts",
               harm=lambda at: at.listed(lambda d: d["training"].append("a")))  # type: ignore[arg-type]  # fmt: skip
    yield kind("an empty list", "'training' of .* is an empty list",
               harm=lambda at: at.listed(lambda d: d["training"].clear()))  # fmt: skip
    yield kind("no validation", "has no key 'validation'", harm=lambda at: at.listed(lambda d: d.pop("validation")))
    yield kind("no image in the folder", "no patient001_frame.*in .*/patient001", harm=lambda at: at.file().unlink())
    yield kind("no label in the folder", "has no ground truth", harm=lambda at: at.file("label").unlink())


def _spacing() -> Iterator[Kind]:
    kind = partial(Kind, "spacing")
    for bundle, part in (("acdc_lv", "training"), ("acdc_lv", "validation"), ("stroke_flair", "validation")):
        for value in ([1.5, 1.25], [1.5, 1.25, 8, 1], [1.5, 0, 8], [1.5, -1.25, 8], [1.5, np.nan, 8], [1.5, np.inf, 8],
                      "thin", ["a", "b", "c"], 1.5, [1.5, None, 8], []):  # fmt: skip
            yield kind(f"{value}, {part}, {bundle}", "case .*, spacing: .*expected three numbers", bundle=bundle,
                       harm=entry("spacing", value, part))  # fmt: skip
        yield kind(f"not the header's, {part}, {bundle}", "case .*, spacing: .* but the header", bundle=bundle,
                   harm=entry("spacing", [3.0, 3.0, 3.0], part))  # fmt: skip
    yield kind("axes exchanged", "case .*, spacing: .* but the header", harm=entry("spacing", [8.0, 1.25, 1.5]))
    yield kind("as rounded", "", harm=entry("spacing", [1.5, 1.25, 8.004]))
    yield kind("a header of 1 mm, which says nothing", "", harm=lambda at: rewrite(
        at.file(), lambda d: d, np.diag([-1.0, -1.0, 1.0, 1.0])))  # fmt: skip


def _warned() -> Iterator[Kind]:
    def accepted(name: str, warns: str, **given: object) -> Kind:
        return Kind("warned", name, "", warns=warns, **given)  # type: ignore[arg-type]

    for bundle in ("acdc_lv", "stroke_flair", "wmh"):
        for part in ("training", "validation"):
            yield accepted(f"a constant image, {part}", r"case \S+.* one value", bundle=bundle,
                           harm=lambda at, part=part: at.edit(lambda d: d * 0 + 7, "image", part))  # fmt: skip

    def almost(data: np.ndarray) -> np.ndarray:
        data = data * 0
        data[20:22, 20, 0] = 9
        return data

    yield accepted("an image with two bright voxels", r"case \S+.* one value", harm=lambda at: at.edit(almost))
    yield accepted("a structure cut off by the crop", r"case \S+.* cut off", options={"padded_size": [14, 14]})
    yield accepted("a lesion cut off", r"case \S+.* cut off", bundle="stroke_flair",
                   options={"padded_size": [20, 20]})  # fmt: skip
    common = "monai_constraints.constraints.Common"
    yield accepted("a largest size above the image", r"case \S+.* beyond the image",
                   options={"size_rule": {"_target_": common, "lower": 1, "upper": 5000}})  # fmt: skip
    yield accepted("a centroid outside of the image", r"case \S+.* beyond the image", bundle="acdc",
                   options={"centroid_rule": {"_target_": common, "lower": -10, "upper": 99}})  # fmt: skip
    yield accepted("a smallest size above the image", r"case \S+.* beyond the image",
                   options={"size_rule": {"_target_": common, "lower": 5000, "upper": 6000}})  # fmt: skip
    yield Kind("own data", "strokes of the structure alone", "", {"--rows": ["scribbles"]}, harm=strokes)
    yield Kind("own data", "strokes, and tags", "", {"--rows": ["tags", "scribbles"]}, harm=lambda at: {
        **strokes(at), "size_rule": {"_target_": "monai_constraints.constraints.Tag"}, "size_rule#lower": None,
        "size_rule#upper": None})  # fmt: skip
    rows = {"--rows": ["scribbles"], "size_rule#lower": 2, "size_rule#upper": 60}
    yield Kind("own data", "strokes in the background too", "", rows)
    yield Kind("own data", "three structures from scribbles", "", bundle="acdc")
    yield Kind("own data", "no scribble, a label instead", "", bundle="acdc", harm=without("scribble"))
