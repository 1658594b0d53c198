"""The fully connected CRF: against the paper's formula, the authors' own program for pictures."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

import monai_constraints.transforms.postprocessing.dense_crf as module
from monai_constraints.command import BUNDLES
from monai_constraints.transforms import DenseCRF, DenseCRFd

pydensecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed: the extra crf")


def random(classes: int, *shape: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(classes), shape)
    return np.moveaxis(p, -1, 0).astype(np.float32), rng.random((channels, *shape)).astype(np.float32)


def two_halves(*shape: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """An image that is brighter in the last half of its first axis, and probabilities that say so with noise."""
    rng = np.random.default_rng(1)
    truth = np.zeros(shape, np.float32)
    truth[shape[0] // 2 :] = 1
    p = np.clip(0.3 + 0.4 * truth + noise * rng.normal(size=shape), 0.01, 0.99).astype(np.float32)
    return np.stack([1 - p, p]), truth[None]


def mean_field(crf: DenseCRF, probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The paper's algorithm 1 as loops over all pairs, the exact Gaussians in place of the lattice."""
    places = list(product(*map(range, image.shape[1:])))
    kernel = np.zeros((len(places),) * 2)
    parts: list[tuple[Any, Any, Any]] = [
        (crf.gaussian_weight, crf.gaussian_spatial_sigma, None),
        (crf.bilateral_weight, crf.bilateral_spatial_sigma, crf.bilateral_color_sigma),
    ]
    for weight, position, colour in parts:
        k = np.zeros_like(kernel)
        for i, p in enumerate(places):
            for j, q in enumerate(places):
                k[i, j] = -sum((a - b) ** 2 for a, b in zip(p, q)) / (2 * float(position) ** 2)
                if colour is not None:
                    k[i, j] -= ((image[(..., *p)] - image[(..., *q)]) ** 2).sum() / (2 * float(colour) ** 2)
        k = np.exp(k)
        norm = 1 / np.sqrt(k.sum(1))
        kernel += weight * norm[:, None] * k * norm[None]
    log_p = np.log(probabilities.reshape(len(probabilities), -1).astype(float))
    q = np.exp(log_p)
    for _ in range(crf.iterations):
        logits = log_p + q @ kernel
        q = np.exp(logits - logits.max(0))
        q /= q.sum(0)
    return q.reshape(probabilities.shape)


def test_the_papers_formula() -> None:
    probabilities, image = random(3, 9, 8)
    image = np.round(image) * 0.8 + 0.1 * image  # the lattice's Gaussians are approximate, most of all halfway
    crf = DenseCRF(bilateral_weight=2, bilateral_spatial_sigma=4, bilateral_color_sigma=0.4, gaussian_weight=1)
    expected, found = mean_field(crf, probabilities, image), crf(probabilities, image)
    assert np.abs(found - expected).mean() < 0.2 * np.abs(probabilities - expected).mean()
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.95
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)


def test_the_same_as_the_authors_own_program_for_pictures() -> None:
    """With the settings of the published DeepCut, in which images had 8 bits."""
    probabilities, image = random(2, 17, 13, channels=3)
    picture = (255 * image).astype(np.uint8)
    field = pydensecrf.DenseCRF2D(13, 17, 2)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities.reshape(2, -1))))
    field.addPairwiseGaussian(sxy=1, compat=3)
    field.addPairwiseBilateral(sxy=10, srgb=20, rgbim=np.ascontiguousarray(picture.transpose(1, 2, 0)), compat=10)
    expected = np.array(field.inference(5)).reshape(2, 17, 13)
    np.testing.assert_allclose(DenseCRF()(probabilities, picture / np.float32(255)), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 16), (16, 12, 6)])
def test_borders_go_to_edges(shape: tuple[int, ...]) -> None:
    probabilities, image = two_halves(*shape, noise=0.4)
    before, after = ((p.argmax(0) == image[0]).mean() for p in (probabilities, DenseCRF()(probabilities, image)))
    assert before < 0.8 and after == 1


def test_slices_of_a_volume_or_the_whole() -> None:
    probabilities, image = random(3, 10, 7, 4, channels=2)
    crf = DenseCRF(bilateral_color_sigma=(0.3, 0.5))
    sample: dict[Any, Any] = {
        "pred": MetaTensor(torch.as_tensor(probabilities), meta={"kept": 1}),
        "image": MetaTensor(torch.as_tensor(image)),
    }
    last, first, whole = (DenseCRFd("pred", crf=crf, axis=axis)(sample)["pred"] for axis in (-1, 0, None))
    assert isinstance(last, MetaTensor) and last.meta["kept"] == 1 and last.dtype == torch.float32
    np.testing.assert_allclose(last[..., 2], crf(probabilities[..., 2], image[..., 2]), rtol=1e-6)
    np.testing.assert_allclose(first[:, 3], crf(probabilities[:, 3], image[:, 3]), rtol=1e-6)
    np.testing.assert_allclose(whole, crf(probabilities, image), rtol=1e-6)
    flat = {key: value[..., 2] for key, value in sample.items()}
    np.testing.assert_allclose(DenseCRFd("pred", crf=crf)(flat)["pred"], last[..., 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("classes", "shape"), [(1, (5, 4)), (2, (5, 5)), (2, (5, 4, 3))], ids=["one class", "another grid", "a volume"]
)
def test_what_does_not_fit_is_refused(classes: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="DenseCRF: probabilities .* expected"):
        DenseCRFd("pred")({"pred": torch.ones(classes, *shape), "image": torch.ones(1, 5, 4)})


@pytest.mark.parametrize("given", [{"iterations": 0}, {"gaussian_weight": -1}, {"bilateral_spatial_sigma": (1, 0)}])
def test_settings_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected sigmas above 0"):
        DenseCRF(**given)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'monai-constraints\[crf\]'"):
        DenseCRF()


def test_the_field_of_evaluations_leaves_a_thin_structure() -> None:
    """A ring that the image does not show, of which a network is fairly sure; DeepCut's field takes it for noise."""
    x, y = np.ogrid[-32:32, -32:32]
    ring = np.abs(np.hypot(x, y) - 10) < 2
    p = np.where(ring, 0.85, 0.05).astype(np.float32)
    probabilities, image = np.stack([1 - p, p]), np.full((1, 64, 64), 0.5, np.float32)

    def left(crf: DenseCRF) -> float:
        return float((crf(probabilities, image).argmax(0) == 1)[ring].mean())

    assert left(DenseCRF()) < 0.1
    paths = sorted(BUNDLES.glob("*/configs/inference.yaml")) + sorted(BUNDLES.glob("*/configs/evaluate.yaml"))
    fields = [ConfigParser.load_config_file(str(path)).get("crf") for path in paths]
    fields = [{**field, "_disabled_": False} for field in fields if field]
    assert len(fields) == 28 and all(field == fields[0] for field in fields)
    assert left(ConfigParser({"crf": fields[0]}).get_parsed_content("crf")) > 0.98
