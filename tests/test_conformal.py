"""Margins of predictions, against another library, closed forms and simulated patients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from crepes import ConformalRegressor
from hypothesis import given
from hypothesis import strategies as st

from monai_constraints.constraints import ConformalMargin, RelativeMargin, conformal_quantile, highest_level
from monai_constraints.regression import LeavePatientsOut


def simulated(patients: int, slices: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Predictions (N, 2, 1), the truth, and who each slice is of; patients differ more than their slices."""
    rng = np.random.default_rng(seed)
    true = rng.gamma(2.0, 400.0, (patients, slices, 2)) * (rng.random((patients, slices, 2)) < 0.85)
    own = rng.normal(0, 3, (patients, 1, 2))
    predicted = true + np.sqrt(true + 100) * (own + rng.normal(0, 2, true.shape))
    flat = [torch.tensor(x).reshape(-1, 2, 1) for x in (predicted, true)]
    return flat[0], flat[1], [f"p{n}" for n in range(patients) for _ in range(slices)]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_quantile_is_the_smallest_score_that_enough_scores_do_not_pass(scores: list[float], level: float) -> None:
    given_scores = torch.tensor(scores, dtype=torch.float64)
    if level > highest_level(len(scores)) + 1e-6:
        text = f"{len(scores)} scores can promise {highest_level(len(scores)):.3f} at most"
        with pytest.raises(ValueError, match=text):
            conformal_quantile(given_scores, level)
    elif level < highest_level(len(scores)):
        found = conformal_quantile(given_scores, level)
        assert sum(s <= found for s in scores) >= (len(scores) + 1) * level - 1e-6
        assert sum(s < found for s in scores) < (len(scores) + 1) * level


def test_five_patients_promise_five_sixths_and_no_more() -> None:
    predicted, true, patients = simulated(5, 9, 0)
    ConformalMargin(level=5 / 6, unit="patient").fit(predicted, true, patients)
    with pytest.raises(ValueError, match="5 patients can promise a coverage of 0.833 at most, level=0.9"):
        ConformalMargin(level=0.9, unit="patient").fit(predicted, true, patients)


def test_a_margin_of_the_slices_of_few_patients_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    LeavePatientsOut.check_level(ConformalMargin(level=0.9), 5, 60)
    assert not caplog.records
    LeavePatientsOut.check_level(ConformalMargin(level=0.9), 4, 60)
    assert "margin of 0.90 from the slices of 4 patients may cover far fewer of others" in caplog.text


@pytest.mark.parametrize("unit", ["slice", "patient"])
def test_the_same_as_crepes(unit: str) -> None:
    predicted, true, patients = simulated(12, 7, 1)
    # A level for which (n + 1) level is no whole number, where crepes takes 1 - .8 for less than .2.
    margin = ConformalMargin(level=0.83, unit=unit, offset=50, smallest=0)  # type: ignore[arg-type]
    margin.fit(predicted, true, patients)
    new = torch.tensor([[[500.0], [40.0]], [[-30.0], [2000.0]]], dtype=torch.float64)
    found = margin(new)
    for k in range(2):
        value, y = predicted[:, k, 0].clamp_min(0).numpy(), true[:, k, 0].numpy()
        residuals, sigmas = y - value, np.sqrt(value + 50)
        if unit == "patient":  # a patient counts by the slice that is worst
            worst = [np.abs(residuals / sigmas).reshape(12, 7).argmax(1)[p] + 7 * p for p in range(12)]
            residuals, sigmas = residuals[worst], sigmas[worst]
        y_hat = new[:, k, 0].clamp_min(0).numpy()
        other = ConformalRegressor().fit(residuals, sigmas=sigmas)
        expected = other.predict_int(y_hat, sigmas=np.sqrt(y_hat + 50), confidence=0.83, y_min=0)
        np.testing.assert_allclose(found[:, k, 0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("unit", "level"), [("slice", 0.9), ("patient", 0.8)])
def test_coverage_of_new_patients_is_what_is_stated(unit: str, level: float) -> None:
    within = []
    for seed in range(150):
        predicted, true, patients = simulated(21 if unit == "slice" else 20, 6, seed)
        margin = ConformalMargin(level=level, unit=unit)  # type: ignore[arg-type]
        margin.fit(predicted[:-6], true[:-6], patients[:-6])
        bounds = margin(predicted[-6:])
        inside = (bounds[..., 0] <= true[-6:]) & (true[-6:] <= bounds[..., 1])
        within.append((inside if unit == "slice" else inside.all(0)).double().mean().item())
    assert level - 0.04 < np.mean(within) < level + 0.06


def test_what_small_and_negative_predictions_mean() -> None:
    margin = ConformalMargin(level=0.5, offset=100, smallest=10)
    margin.fit(torch.tensor([[[0.0]]]), torch.tensor([[[20.0]]]), ["a"])  # q = 20 / sqrt(100) = 2
    bounds = margin(torch.tensor([[[-50.0]], [[0.0]], [[21.0]], [[44.0]], [[300.0]]]))[:, 0, 0]
    assert bounds[0].tolist() == bounds[1].tolist() == [0.0, 20.0]
    assert bounds[2].tolist() == pytest.approx([0.0, 43.0])  # 21 - 2 * 11 is below 0
    assert bounds[3].tolist() == pytest.approx([20.0, 68.0]) and bounds[4].tolist() == pytest.approx([260.0, 340.0])
    margin.smallest = 21
    assert margin(torch.tensor([[[44.0]]]))[0, 0, 0].tolist() == pytest.approx([0.0, 68.0])
    published = RelativeMargin(gamma=0.1)(torch.tensor([[[-5.0]], [[30.0]]]))[:, 0, 0]
    assert published[0].tolist() == [0.0, 0.0] and published[1].tolist() == pytest.approx([27.0, 33.0])


def test_places_are_not_scaled_and_what_is_not_known_does_not_count() -> None:
    margin = ConformalMargin(level=0.5, scaled=False, minimum=-float("inf"))
    true = torch.tensor([[[1.0, 5.0]], [[float("nan"), -9.0]], [[3.0, 0.0]]])
    margin.fit(torch.zeros(3, 1, 2), true, ["a", "a", "b"])
    assert margin.quantile is not None and margin.quantile.tolist() == [[3.0, 5.0]]
    assert margin(torch.tensor([[[-10.0, 2.0]]])).tolist() == [[[[-13.0, -7.0], [-3.0, 7.0]]]]
    assert margin.describe()["patients"] == 2 and margin.describe()["level"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"level": 1.0}, "level above 0 and below 1"),
        ({"unit": "volume"}, "'slice' or 'patient'"),
        ({"minimum": -1.0}, "pass scaled=False"),
        ({"offset": 0.0}, "pass scaled=False"),
    ],
)
def test_impossible_settings(wrong: dict, text: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=text):
        ConformalMargin(**wrong)


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="call fit with held-out predictions first"):
        ConformalMargin()(torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match=r"predicted \(3, 1, 1\), true \(2, 1, 1\)"):
        ConformalMargin().fit(torch.zeros(3, 1, 1), torch.zeros(2, 1, 1), ["a"] * 3)
    with pytest.raises(ValueError, match="no known value"):
        ConformalMargin().fit(torch.zeros(2, 1, 1), torch.full((2, 1, 1), float("nan")), ["a", "b"])
    with pytest.raises(ValueError, match="gamma=-1"):
        RelativeMargin(gamma=-1)
