from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from torch import Tensor

from monai_constraints.data import GroupBatchSampler, SliceDataset

SIZES = {"p1_f1": (7, 6, 5), "p1_f2": (7, 6, 3), "p2_f1": (8, 6, 4)}


def make_volumes() -> list[dict[str, Any]]:
    volumes = []
    for case, size in SIZES.items():
        volumes.append(
            {
                "image": MetaTensor(torch.rand(2, *size), affine=torch.eye(4)),
                "label": torch.randint(0, 3, (1, *size)),
                "distance": torch.rand(3, *size),
                "volume_size_bounds": MetaTensor(torch.rand(3, 1, 2)),
                "spacing": [1.5, 1.25, 8.0],
                "case": case,
                "patient": case[:2],
                "index": 99,
            }
        )
    return volumes


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
def test_every_slice_once_in_order(axis: int) -> None:
    volumes = make_volumes()
    data = SliceDataset(volumes, axis=axis)
    dim = axis if axis < 0 else axis + 1
    expected = [(v, s) for v, volume in enumerate(volumes) for s in range(volume["image"].shape[dim])]
    assert len(data) == len(expected) and data.case_index == [v for v, _ in expected]
    assert data.cases == [list(SIZES)[v] for v, _ in expected]
    for index, (v, s) in enumerate(expected):
        item = data[index]
        assert (item["index"], item["slice"], item["case"]) == (index, s, data.cases[index])
        assert item["patient"] == volumes[v]["patient"] and item["spacing"] == [1.5, 1.25, 8.0]
        for key in ("image", "label"):
            assert torch.equal(item[key], volumes[v][key].as_subclass(Tensor).select(dim, s))
        assert torch.equal(item["volume_size_bounds"], volumes[v]["volume_size_bounds"].as_tensor())
        assert "distance" not in item


def test_plain_contiguous_and_small() -> None:
    image = MetaTensor(torch.rand(1, 64, 64, 64))
    volumes = [{**make_volumes()[0], "image": image, "label": torch.zeros(1, 64, 64, 64)}]
    item = SliceDataset(volumes)[3]
    for value in (item["image"], item["label"], item["volume_size_bounds"]):
        assert type(value) is Tensor and value.is_contiguous()
    assert len(pickle.dumps(item)) < 2 * 4 * 64 * 64 + 4000
    item["image"].zero_()
    item["volume_size_bounds"].zero_()
    assert volumes[0]["image"].abs().sum() > 0 and volumes[0]["volume_size_bounds"].abs().sum() > 0


def test_volume_keys_pass_whole() -> None:
    volumes = make_volumes()
    item = SliceDataset(volumes, keys=("image",), volume_keys=("distance",))[6]
    assert torch.equal(item["distance"], volumes[1]["distance"]) and "label" not in item


def test_indexing() -> None:
    data = SliceDataset(make_volumes())
    assert data[-1]["index"] == len(data) - 1
    assert [item["index"] for item in data] == list(range(12))  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        data[12]


def test_with_cache_loader_and_sampler() -> None:
    data = SliceDataset(CacheDataset(make_volumes(), progress=False, num_workers=0))
    loader = DataLoader(data, batch_sampler=GroupBatchSampler(data.cases), num_workers=0)
    seen = {}
    for batch in loader:
        (case,) = set(batch["case"])
        seen[case] = tuple(batch["image"].shape)
        assert batch["slice"].tolist() == list(range(len(batch["image"])))
        assert batch["index"].dtype == torch.int64
    assert seen == {case: (z, 2, x, y) for case, (x, y, z) in SIZES.items()}


def test_errors() -> None:
    volumes = make_volumes()
    with pytest.raises(ValueError, match="0 volumes"):
        SliceDataset([])
    with pytest.raises(ValueError, match="axis 3, but case 'p1_f1'.*pass -3 .. 2"):
        SliceDataset(volumes, axis=3)
    with pytest.raises(ValueError, match=r"volume 0 has no \['weak'\]"):
        SliceDataset(volumes, keys=("image", "weak"))
    with pytest.raises(ValueError, match="case 'p1_f2' occurs twice"):
        SliceDataset([*volumes, volumes[1]])
    volumes[1]["label"] = torch.zeros(1, 7, 6, 4)
    with pytest.raises(ValueError, match=r"case 'p1_f2' has shapes .*'label': \(1, 7, 6, 4\).*resample"):
        SliceDataset(volumes)
