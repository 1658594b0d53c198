"""Cases in, annotated slices out: reading, checks, caching, and what is refused before a training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_data import make_acdc, save
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.metrics import DiceMetric
from monai.transforms import Compose, LoadImaged, MapLabelValued, Resized, ScaleIntensityd
from torch import Tensor, nn

from monai_constraints.constraints import Individual, Size
from monai_constraints.data import CachedSlices, LoadCased, Preflight, SliceDataset, find_images
from monai_constraints.data.datasets.acdc import acdc_datalist
from monai_constraints.handlers import SliceDice
from monai_constraints.transforms import ConstraintBoundsd, OneStructured, PointLabeld

KEYS = ["image", "label", "scribble"]
GRID: list[Any] = [
    Resized(KEYS, [32, 24, -1], mode=["area", "nearest-exact", "nearest-exact"]), ScaleIntensityd("image"),
]  # fmt: skip
STRUCTURE = OneStructured(["label", "scribble"], 3, classes=4, unknown=4)
TRANSFORM = Compose([LoadCased(KEYS, classes=4, unknown=4), STRUCTURE, *GRID])


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return acdc_datalist(make_acdc(tmp_path_factory.mktemp("acdc")))["training"]


def annotate() -> list[Any]:
    return [PointLabeld(classes=[1], radius=2), ConstraintBoundsd(Size(classes=[1]), Individual(relative=0.1), "size")]


def test_the_same_as_monais_transforms_over_a_slice_dataset(cases: list[dict[str, Any]]) -> None:
    kinds = {"label": (range(4), [0, 0, 0, 1]), "scribble": (range(5), [0, 0, 0, 1, 255])}
    maps = [MapLabelValued(key, list(old), new, dtype=torch.uint8) for key, (old, new) in kinds.items()]
    load = LoadImaged(KEYS, reader="NibabelReader", ensure_channel_first=True)
    volumes = CacheDataset(cases, Compose([load, *maps, *GRID]), progress=False)
    old = CacheDataset(SliceDataset(volumes, keys=KEYS), Compose(annotate()), progress=False)
    new = CachedSlices(cases, TRANSFORM, keys=KEYS, annotate=annotate(), classes=["ventricle"])
    assert len(new) == len(old) and new.cases == [item["case"] for item in old]
    batches = [next(iter(DataLoader(d, batch_size=5, collate_fn=c))) for d, c in
               ((old, list_data_collate), (new, CachedSlices.collate))]  # fmt: skip
    for key in (*KEYS, "weak", "size_bounds", "slice", "index"):
        assert torch.equal(*(torch.as_tensor(batch[key]).as_subclass(Tensor) for batch in batches)), key
    assert batches[0]["case"] == batches[1]["case"] and type(batches[1]["image"]) is Tensor
    assert new[-1]["index"] == len(new) - 1 and "label" not in CachedSlices(cases, TRANSFORM, drop=["label"])[0]


def test_random_transforms_come_after_the_cache(cases: list[dict[str, Any]]) -> None:
    draw = iter(range(100))
    data = CachedSlices(cases, TRANSFORM, augment=lambda item: {**item, "image": item["image"] + next(draw)})
    (batch,) = DataLoader(data, batch_size=len(data), collate_fn=CachedSlices.collate)
    first = batch["image"] - CachedSlices(cases, TRANSFORM)._stacks["image"]
    assert torch.allclose(first[:, 0, 0, 0], torch.arange(len(data), dtype=torch.float32))


def test_volumes_of_several_sizes_are_kept_apart(cases: list[dict[str, Any]]) -> None:
    sizes = iter([8, 16])
    data = CachedSlices(cases, lambda item: Resized(KEYS, [next(sizes)] * 3, mode="nearest")(LoadCased(KEYS)(item)))
    assert {tuple(data[i]["image"].shape) for i in range(len(data))} == {(1, 8, 8), (1, 16, 16)}


def test_all_problems_at_once(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    image = np.full((6, 5, 3), 1.0)
    image[0, 0, 0] = np.nan
    (tmp_path / "torn.nii.gz").write_bytes(b"torn")
    bad = [
        {**cases[0], "case": "a", "image": str(tmp_path / "no.nii.gz")},
        {**cases[0], "case": "b", "image": str(save(tmp_path / "nan.nii.gz", image))},
        {**cases[0], "case": "c", "image": str(tmp_path / "torn.nii.gz")},
        {**cases[0], "case": "d", "label": cases[0]["scribble"]},
        {**cases[0], "case": "e", "image": str(save(tmp_path / "time.nii.gz", np.ones((6, 5, 3, 2))))},
        {**cases[0], "case": "f", "image": str(save(tmp_path / "small.nii.gz", np.ones((6, 5, 3))))},
    ]
    with pytest.raises(ValueError) as error:
        CachedSlices(bad, TRANSFORM)
    text = str(error.value)
    expected = {"a": "no such file", "b": "1 voxels are NaN", "c": "truncated or not NIfTI", "d": "found 4",
                "e": "shape (6, 5, 3, 2)", "f": "resample one onto"}  # fmt: skip
    for case, problem in expected.items():
        assert any(line.startswith(f"case {case}, ") and problem in line for line in text.splitlines()), (case, text)


def test_a_structure_that_is_nowhere_is_refused(cases: list[dict[str, Any]]) -> None:
    without = Compose([TRANSFORM, lambda item: {**item, "label": item["label"] * 0}])
    with pytest.raises(ValueError, match="ventricle in no label of 2 cases"):
        CachedSlices(cases, without, classes=["ventricle"])
    with pytest.raises(ValueError, match="no cases"):
        CachedSlices([], TRANSFORM)


def test_case_and_spacing_come_from_the_file(cases: list[dict[str, Any]]) -> None:
    bare = {"image": cases[0]["image"], "label": cases[0]["label"], "spacing": None}
    item = LoadCased(["image", "label"])(bare)
    assert item["case"] == "patient001_frame01" and item["spacing"] == [1.5, 1.25, 8.0]


@pytest.mark.parametrize("value", [5, 254, -1, 300])
def test_one_structure_refuses_what_is_no_class(value: int) -> None:
    with pytest.raises(ValueError, match="OneStructured: 'label'"):
        OneStructured("label", 3, classes=4, unknown=4)({"label": torch.tensor([[[0, value]]])})


@pytest.mark.parametrize("ignore_empty", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
def test_slice_dice_is_monais(ignore_empty: bool, one_hot: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, label = torch.randint(0, 3, (2, 7, 1, 6, 5), generator=generator)
    label[0], label[1][label[1] == 2], prediction[0] = 0, 0, 0
    hot = [nn.functional.one_hot(x[:, 0], 3).movedim(-1, 1) for x in (prediction, label)]
    theirs = DiceMetric(include_background=False, ignore_empty=ignore_empty)
    ours = SliceDice(2, ignore_empty=ignore_empty)
    engine: Any = type("Engine", (), {})()
    engine.state = engine
    for rows in (slice(0, 3), slice(3, 7)):
        theirs(hot[0][rows], hot[1][rows])
        pairs = zip(*(x[rows] for x in (hot if one_hot else (prediction, label))))
        engine.output = [{"pred": p, "label": g} for p, g in pairs]
        ours.iteration_completed(engine)
    assert ours.compute() == pytest.approx(float(theirs.aggregate()), rel=1e-6)  # type: ignore[arg-type]
    volume = SliceDice(2, ignore_empty=ignore_empty, axis=0)
    volume.update([x[:, 0][None] for x in (prediction, label)])
    assert volume.compute() == pytest.approx(ours.compute())


def preflight(tmp_path: Path, training: Any, validation: Any, **options: Any) -> Preflight:
    given = {"network": nn.Conv2d(1, 2, 1), "shape": (1, 8, 8), "class_names": ["ventricle"], **options}
    return Preflight(training=training, validation=validation, output_dir=str(tmp_path / "out"), **given)


def test_leaks_are_refused(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    one, other = cases
    preflight(tmp_path, [one], [other])()
    (tmp_path / "link.nii.gz").symlink_to(one["image"])
    stranger = {**one, "case": "x", "patient": "y"}
    for leak, reason in (
        (one, "case patient001_frame01 is in"), ({**one, "case": "x"}, "patient patient001 is in"),
        ({**stranger, "image": str(tmp_path / "link.nii.gz")}, "is in the training and in the validation"),
        ({**other, "label": one["label"]}, "patient001_frame01_gt.nii.gz is in the training and in the validation"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            preflight(tmp_path, [one], [leak])()
    with pytest.raises(ValueError, match="twice in the training list"):
        preflight(tmp_path, [one, one], [other])()
    with pytest.raises(ValueError, match="gz is twice in the validation list, of patient001_frame01 and of x"):
        preflight(tmp_path, [other], [one, {**stranger, "image": str(tmp_path / "link.nii.gz")}])()
    with pytest.raises(ValueError, match="patient 7 is in the training and in the validation"):
        preflight(tmp_path, [{**one, "patient": 7}], [{**other, "patient": "7"}])()
    preflight(tmp_path, [{**one, "patient": None}], [{**other, "patient": None}])()
    with pytest.raises(FileNotFoundError, match="no such file"):
        preflight(tmp_path, [one], [{**other, "label": "/nowhere.nii"}])()


def test_a_network_that_does_not_fit_is_refused(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    for network, reason in ((nn.Conv2d(2, 2, 1), "takes no images"), (nn.Conv2d(1, 3, 1), "expected .1, 2, 8, 8")):
        with pytest.raises(ValueError, match=reason):
            preflight(tmp_path, cases[:1], cases[1:], network=network)()
    assert not (tmp_path / "out").exists()


def test_images_of_a_folder(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = Path(cases[0]["image"]).parents[1]
    found = find_images(folder, not_images=["_gt", "_scribble"])
    assert [item["case"] for item in found][:2] == ["patient001/patient001_frame01", "patient003/patient003_frame01"]
    assert find_images(cases[0]["image"])[0]["case"] == "patient001_frame01"
    with pytest.raises(FileNotFoundError, match="find_images: no"), warnings.catch_warnings():
        find_images(tmp_path)


def test_a_label_alone_is_a_scribble_of_every_voxel(
    cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    given = [{k: v for k, v in case.items() if k != "scribble"} for case in cases[:1]] + cases[1:2]
    reading = LoadCased(keys=["image", "label", "scribble"], classes=4, unknown=4)
    with caplog.at_level("INFO"):
        slices = CachedSlices(given, reading, keys=("image", "label", "scribble"))
    first, last = slices[0], slices[len(slices) - 1]
    assert torch.equal(first["scribble"], first["label"]) and not torch.equal(last["scribble"], last["label"])
    assert "1 of 2 cases have no scribble" in caplog.text


def test_whole_volumes(cases: list[dict[str, Any]]) -> None:
    """One item a case, whose slices are those of the same data cut; a whole volume has no number of a slice."""
    transform = LoadCased(["image", "label"], classes=4)
    volumes, slices = (CachedSlices(cases, transform, annotate=annotate(), axis=axis) for axis in (None, -1))
    assert volumes.cases == ["patient001_frame01", "patient003_frame01"]
    first = volumes[0]
    assert "slice" not in first and first["image"].shape == (1, 48, 40, 4) and first["weak"].shape == (1, 48, 40, 4)
    for key in ("image", "label"):
        assert torch.equal(first[key], torch.stack([slices[i][key] for i in range(4)], -1))
    (batch,) = DataLoader(CachedSlices(cases[:1], transform, axis=None), batch_size=2, collate_fn=CachedSlices.collate)
    assert batch["image"].shape == (1, 1, 48, 40, 4) and batch["spacing"].tolist() == [[1.5, 1.25, 8.0]]


@pytest.mark.parametrize("sizes", [[8, 8], [8, 16]], ids=["one shape", "two shapes"])
def test_an_entry_is_replaced(sizes: list[int], cases: list[dict[str, Any]]) -> None:
    left = iter(sizes)
    data = CachedSlices(cases[:2], lambda item: Resized(KEYS, [next(left)] * 3, mode="nearest")(LoadCased(KEYS)(item)))
    new = [torch.full_like(data[i]["label"], i).double() for i in range(len(data))]
    before = data[1]["label"].dtype
    data.replace("label", new)
    batch = next(iter(DataLoader(data, batch_size=8, collate_fn=CachedSlices.collate)))
    assert data[1]["label"].dtype == before
    assert batch["label"].flatten(1).unique(dim=1).flatten().tolist() == [*range(8)]
    with pytest.raises(KeyError, match="no 'box' to replace"):
        data.replace("box", new)
    with pytest.raises(ValueError, match=f"{len(new) - 1} values for 'label' of {len(new)} slices"):
        data.replace("label", new[:-1])
    with pytest.raises(ValueError, match=r"the first of another shape at \[2\]"):
        data.replace("label", [one if i < 2 else one[:, :-1] for i, one in enumerate(new)])
