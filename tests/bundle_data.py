"""Miniature data in the layouts of the data sets, and settings for a quick run of a bundle."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_constraints.data.metaimage import read_metaimage

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
# As in ACDC: the affine says 1 mm, the header of the image another voxel size.
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = (1.5, 1.25, 8.0)
# Slices by patient. Numbers 13 and 14 validate; the row "common" takes its bounds from patient 3.
PATIENTS = {1: 4, 3: 3, 13: 5, 14: 3}
SHAPE = (48, 40)
# Sagittal slices by case; 5 and 12 validate, and the row "common" takes its bounds from case 2.
SPINES = {2: 5, 4: 4, 5: 5, 12: 3}
SPINE_SPACING = (2.0, 1.25, 1.5)
# Slices by case; 0 and 5 validate.
PROSTATES = {0: 3, 1: 4, 2: 3, 5: 2}
PROSTATE_SPACING = (0.75, 0.5, 3.6)
# Volumes of one slice; the first and the sixth validate, the third and the sixth are without lesion.
SUBJECTS = range(1, 8)
# Slices by site and subject, sorted as the split sorts them: the first and the seventh validate.
BRAINS = {
    "Amsterdam/GE3T/100": 3, "Singapore/50": 4, "Singapore/51": 3, "Utrecht/0": 3, "Utrecht/2": 4, "Utrecht/4": 3,
    "Utrecht/11": 2,
}  # fmt: skip
BRAIN_SPACING = (1.5, 1.25, 3.0)
# Slices by case; 75 and 76 validate.
PERFUSIONS = {1: 3, 2: 4, 10: 2, 75: 2, 76: 3}
PERFUSION_SPACING = (1.25, 1.5, 8.0)
# Slices by subject; the first and the tenth validate.
STROKES = dict.fromkeys(range(1, 11), 3)
# Whole volumes; the first and the sixth validate. One axis is cropped to the 32 voxels of the network, two are padded.
HIPPOCAMPI = (1, 3, 4, 6, 7, 8, 10, 11)
HIPPOCAMPUS_SHAPE = (36, 28, 30)
FEATURES = [4, 4, 8, 8, 8, 4]


def save(
    path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, spacing: tuple[float, ...] | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if spacing is not None:
        image.header.set_zooms(spacing)
    nib.save(image, path)
    return path


def load(path: str | Path) -> Any:
    return nib.load(path)


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine of a file of either kind."""
    if path.suffix == ".mhd":
        return read_metaimage(path)
    file = load(path)
    return np.asarray(file.dataobj), file.affine


def make_acdc(root: Path, patients: Mapping[int, int] = PATIENTS) -> Path:
    """A few volumes with a bright disc (class 3) in a ring (2) beside a disc (1); the last slice is empty."""
    rng = np.random.default_rng(0)
    for number, depth in patients.items():
        label = np.zeros((*SHAPE, depth), np.uint8)
        x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
        for z in range(depth - 1):
            row, column = rng.integers(14, 26, size=2)
            for k, shift, square in ((1, 12, 16), (2, 0, 64), (3, 0, 25)):
                label[(x - row - shift) ** 2 + (y - column) ** 2 <= square, z] = k
        image = (60 * label + rng.normal(40, 5, label.shape)).astype(np.int16)
        scribble = np.where(rng.random(label.shape) < 0.05, label, 4).astype(np.uint8)
        stem = f"patient{number:03d}_frame01"
        folder = root / f"patient{number:03d}"
        save(folder / f"{stem}.nii.gz", image, spacing=SPACING)
        for end, data in (("_gt", label), ("_scribble", scribble)):
            save(folder / f"{stem}{end}.nii.gz", data)
    return root


def make_acdc_semi(root: Path) -> Path:
    """Four training patients, of whom two can be annotated, and one who validates."""
    return make_acdc(root, {1: 3, 2: 4, 3: 3, 4: 2, 13: 3})


def make_vertebral_bodies(root: Path, *, official: bool = False) -> Path:
    """Volumes with the sagittal slices along the first axis: seven bright bodies from head to foot.

    As in the real files, an affine that calls these axes right, anterior, superior. A slice at either side is empty.
    """
    rng = np.random.default_rng(0)
    for number, depth in SPINES.items():
        label = np.zeros((depth, *SHAPE), np.uint8)
        for x in range(1, depth - 1):
            row, column = rng.integers(2, 5), rng.integers(14, 20)
            for body in range(7):
                label[x, row + 6 * body : row + 6 * body + 4, column : column + 6] = body + 1
        image = (200 * (label > 0) + rng.normal(40, 5, label.shape)).astype(np.int16)
        names = f"Img_{number:02d}.nii", f"Img_{number:02d}_Labels.nii"
        if not official:
            names = f"case{number:02d}.nii.gz", f"case{number:02d}_gt.nii.gz"
        for name, data in zip(names, (image, label)):
            save(root / name, data, np.diag([*SPINE_SPACING, 1.0]))
    return root


def make_promise12(root: Path) -> Path:
    """MetaImages in two folders, as the parts of the download: a bright disc, and none in the last slice."""
    rng = np.random.default_rng(0)
    for number, depth in PROSTATES.items():
        label = np.zeros((*SHAPE, depth), np.int8)
        x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
        for z in range(depth - 1):
            row, column = rng.integers(16, 26, size=2)
            label[(x - row) ** 2 + (y - column) ** 2 <= 36, z] = 1
        image = (200 * (label > 0) + rng.normal(40, 5, label.shape)).astype(np.int16)
        folder = root / f"TrainingData_Part{1 + number // 2}"
        save_metaimage(folder / f"Case{number:02d}.mhd", image, PROSTATE_SPACING)
        save_metaimage(folder / f"Case{number:02d}_segmentation.mhd", label, PROSTATE_SPACING)
    return root


def make_stroke_flair(root: Path) -> Path:
    """Volumes of one slice with a bright disc, or none."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for number in SUBJECTS:
        row, column = rng.integers(14, 26, size=2)
        label = (((x - row) ** 2 + (y - column) ** 2 <= 36) & (number % 3 > 0)).astype(np.uint8)[..., None]
        image = (80 * label + rng.normal(30, 2, label.shape)).astype(np.uint8)
        for end, data in (("flair", image), ("lesion", label)):
            save(root / f"sub-{number}_{end}.nii.gz", data, np.diag([1.5, 1.25, 1.0, 1.0]))
    return root


def make_atlas(root: Path) -> Path:
    """Release 2.0: dark lesions in a bright brain, two in some slices, none in the first and the last."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for number, depth in STROKES.items():
        label = np.zeros((*SHAPE, depth), np.uint8)
        for z in range(1, depth - 1):
            row, column = rng.integers(12, 20, size=2)
            label[(x - row) ** 2 + (y - column) ** 2 <= 25, z] = 1
            if number % 2:
                label[(x - row - 14) ** 2 + (y - column) ** 2 <= 9, z] = 1
        image = (100 - 60 * label + rng.normal(0, 3, label.shape)).astype(np.float32)
        subject = f"sub-r001s{number:03d}"
        stem = root / "Training/R001" / subject / "ses-1/anat" / f"{subject}_ses-1_space-MNI152NLin2009aSym"
        for end, data in (("T1w", image), ("label-L_desc-T1lesion_mask", label)):
            save(Path(f"{stem}_{end}.nii.gz"), data, np.diag([1.0, 1.25, 1.5, 1.0]))
    test = root / "Testing/R002/sub-r002s001/ses-1/anat/sub-r002s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"
    save(test, image, np.eye(4))
    return root


def make_wmh(root: Path) -> Path:
    """The unpacked training archive, with the files that are not used: a bright disc in FLAIR, dark in T1.

    The top slice is empty, and some subjects have other pathology (2), which looks like background.
    """
    rng = np.random.default_rng(0)
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for number, (name, depth) in enumerate(BRAINS.items()):
        label = np.zeros((*SHAPE, depth), np.uint8)
        for z in range(depth - 1):
            row, column = rng.integers(14, 26, size=2)
            label[(x - row) ** 2 + (y - column) ** 2 <= 36, z] = 1
        if number < 4:
            label[2:5, 2:5, 0] = 2
        noise = rng.normal(0, 5, label.shape)
        folder, affine = root / "training" / name, np.diag([*BRAIN_SPACING, 1.0])
        for modality, dark, bright in (("FLAIR", 60, 360), ("T1", 900, 500)):
            image = np.where(label == 1, bright, dark) + noise
            save(folder / "pre" / f"{modality}.nii.gz", image.astype(np.int16), affine)
        save(folder / "wmh.nii.gz", label, affine)
        for file in ("orig/3DT1", "orig/FLAIR", "orig/T1", "pre/3DT1"):
            save(folder / f"{file}.nii.gz", np.zeros((5, 4, 3), np.int16), affine)
    return root


def make_isles(root: Path) -> Path:
    """The unpacked training archive: a folder a file, CT in Hounsfield units, perfusion maps in units of their own."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    number = 345561
    for case, depth in PERFUSIONS.items():
        label = np.zeros((*SHAPE, depth), np.uint8)
        for z in range(depth - 1):
            row, column = rng.integers(14, 26, size=2)
            label[(x - row) ** 2 + (y - column) ** 2 <= 36, z] = 1
        noise = rng.normal(0, 1, label.shape)
        volumes = {
            "CT_4DPWI": np.zeros((*SHAPE, depth, 2), np.int16),
            "CT": (100.0 * label - 50 + noise).astype(np.int16),
            **{name: (scale * (3 - 2 * label) + scale / 50 * noise).astype(np.float32) for name, scale in
               (("CT_CBF", 40), ("CT_CBV", 4), ("CT_MTT", 6))},
            "OT": label,
            "CT_Tmax": (8 * label + noise / 4).astype(np.float32),
        }  # fmt: skip
        for name, data in volumes.items():
            stem = f"SMIR.Brain.XX.O.{name}.{number}"
            save(root / "TRAINING" / f"case_{case}" / stem / f"{stem}.nii", data, np.diag([*PERFUSION_SPACING, 1.0]))
            number += 1
    return root


def make_hippocampus(root: Path) -> Path:
    """The unpacked Task04: two bright parts that lie obliquely in their boxes, as the real ones do."""
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*map(np.arange, HIPPOCAMPUS_SHAPE), indexing="ij"), -1).astype(float)
    for number in HIPPOCAMPI:
        start = np.array([10.0, 8.0, 8.0]) + rng.integers(-2, 3, size=3)
        label = np.zeros(HIPPOCAMPUS_SHAPE, np.uint8)
        for k, shift, length, radius in ((2, 4, 8, 2.5), (1, 0, 3, 3.0)):
            # Distance to a segment along the diagonal of the axes.
            along = np.clip((place - start - shift).sum(-1) / 3, 0, length)
            label[np.linalg.norm(place - start - shift - along[..., None], axis=-1) <= radius] = k
        image = (200 * (label > 0) + 100 * (label == 1) + rng.normal(300, 10, label.shape)).astype(np.int16)
        name = f"hippocampus_{number:03d}.nii.gz"
        save(root / "imagesTr" / name, image, np.eye(4))
        save(root / "labelsTr" / name, label, np.eye(4))
    (root / "imagesTr" / f"._{name}").write_bytes(b"of the archive")
    return root


def save_metaimage(path: Path, data: np.ndarray, spacing: tuple[float, ...]) -> Path:
    """Header and voxels in a file each, with the fields that the official files have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "ObjectType": "Image",
        "NDims": data.ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-14.5 20.25 -30",
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, data.shape)),
        "ElementType": {"int16": "MET_SHORT", "int8": "MET_CHAR"}[data.dtype.name],
        "ElementDataFile": path.with_suffix(".raw").name,
    }
    path.write_text("".join(f"{name} = {value}\n" for name, value in fields.items()))
    path.with_suffix(".raw").write_bytes(data.tobytes(order="F"))  # the first axis runs fastest
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
