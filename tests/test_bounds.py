from __future__ import annotations

import loops
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_constraints.constraints import (
    BoundsRule,
    Centroid,
    Common,
    Individual,
    MeanIntensity,
    Root,
    Size,
    Spread,
    Statistic,
    Tag,
    Unbounded,
    active,
    residuals,
    sides,
)
from monai_constraints.transforms import ConstraintBoundsd, Given, Values, common_bounds

INF = float("inf")


def label(shape: tuple[int, ...] = (6, 7)) -> Tensor:
    """(1, *S) with class 1 in 2 x 3 (x D) voxels, class 3 in the first voxel, no class 2, and some unknown."""
    result = torch.zeros(1, *shape, dtype=torch.uint8)
    result[0, 2:4, 3:6] = 1
    result[0, :1, :1] = 3
    result[0, 5] = 255
    return result


def bounds_of(statistic: Statistic, rule: BoundsRule, **entries: Tensor) -> Tensor:
    return ConstraintBoundsd(statistic, rule, "f")({"label": label(), **entries})["f_bounds"]


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5)])
def test_tags(shape: tuple[int, ...]) -> None:
    """(2.5)"""
    sample = {"label": label(shape), "case": "a"}
    result = ConstraintBoundsd(Size(classes=[1, 2, 3]), Tag(), "size")(sample)
    voxels = 42.0 if len(shape) == 2 else 210.0
    assert result["size_bounds"].tolist() == [[[1, voxels]], [[0, 0]], [[1, voxels]]]
    assert result["size_bounds"].dtype == torch.float32
    assert result["case"] == "a" and "size_bounds" not in sample


def test_common() -> None:
    """(2.6)"""
    got = bounds_of(Size(classes=[1, 2, 3]), Common(60, 2000))
    assert got.tolist() == [[[60, 2000]], [[0, 0]], [[60, 2000]]]
    each = Common([[1.0], [2.0]], [[10.0], [20.0]])
    assert bounds_of(Size(classes=[3, 1]), each).tolist() == [[[1, 10]], [[2, 20]]]
    assert repr(Common(1, 2)) == "Common(lower=1.0, upper=2.0)"


@pytest.mark.parametrize("shape, size", [((6, 7), 6.0), ((6, 7, 5), 30.0)])
def test_individual(shape: tuple[int, ...], size: float) -> None:
    """(2.7), and the thesis's margin of 20 voxels for the centroid"""
    sample = {"label": label(shape)}
    got = ConstraintBoundsd(Size(classes=[2, 1]), Individual(relative=0.1), "s")(sample)["s_bounds"]
    torch.testing.assert_close(got, torch.tensor([[[0.0, 0.0]], [[0.9 * size, 1.1 * size]]]))
    got = ConstraintBoundsd(Centroid(classes=[2, 1]), Individual(absolute=20), "c")(sample)["c_bounds"]
    centre = torch.tensor([2.5, 4.0, 2.0][: len(shape)])
    torch.testing.assert_close(got[1], torch.stack([centre - 20, centre + 20], dim=-1))
    assert got.shape == (2, len(shape), 2) and not active(got[0]).any()


def test_both_margins_add_and_stop_at_the_smallest_value() -> None:
    got = bounds_of(Size(classes=[1]), Individual(relative=0.5, absolute=20))
    assert got.tolist() == [[[0, 29]]]
    assert bounds_of(Spread(classes=[3]), Individual(absolute=2)).tolist() == [[[0, 2], [0, 2]]]
    assert bounds_of(Centroid(classes=[3]), Individual(absolute=2)).tolist() == [[[-2, 2], [-2, 2]]]


@pytest.mark.parametrize("statistic", [Centroid, Spread])
def test_an_absent_class_has_no_position(statistic: type[Statistic]) -> None:
    got = bounds_of(statistic(classes=[1, 2]), Individual(absolute=1))
    assert active(got[0]).all()
    assert got[1].tolist() == [[-INF, INF]] * 2


def test_a_fully_annotated_sample_is_unbounded() -> None:
    assert bounds_of(Size(classes=[1, 2]), Unbounded()).tolist() == [[[-INF, INF]]] * 2


def test_relative_margins_of_negative_values_widen() -> None:
    image = -100 - torch.arange(42.0).reshape(1, 6, 7)
    mean = float(loops.mean_intensity((label()[0] == 1).double().numpy(), image.double().numpy())[0])
    got = bounds_of(MeanIntensity(classes=[1]), Individual(relative=0.1), image=image)
    torch.testing.assert_close(got, torch.tensor([[[1.1 * mean, 0.9 * mean]]]))
    values = torch.tensor([[[-10.0]], [[-30.0]], [[-20.0]]])
    rule = Common.from_values(values, torch.ones(3, 1), factors=(0.9, 1.1))
    assert rule.lower.item() == pytest.approx(-33) and rule.upper.item() == pytest.approx(-9)


def test_images_of_several_channels_have_a_bound_each() -> None:
    image = torch.stack([torch.full((6, 7), 5.0), torch.full((6, 7), -3.0), torch.zeros(6, 7)])
    sample = {"label": label(), "picture": MetaTensor(image)}
    made = ConstraintBoundsd(MeanIntensity(classes=[1, 2]), Individual(absolute=1), "i", image_key="picture")(sample)
    torch.testing.assert_close(made["i_bounds"][0], torch.tensor([[4.0, 6.0], [-4.0, -2.0], [-1.0, 1.0]]))
    assert not active(made["i_bounds"][1]).any()


def test_metatensor_labels_give_plain_bounds() -> None:
    made = ConstraintBoundsd(Size(classes=[1]), Tag(), "s")({"label": MetaTensor(label())})["s_bounds"]
    assert type(made) is Tensor and made.tolist() == [[[1, 42]]]


def test_errors_of_the_transform() -> None:
    sample = {"label": label()}
    with pytest.raises(KeyError, match=r"the sample has no 'seg'; it has \['label'\]"):
        ConstraintBoundsd(Size(classes=[1]), Tag(), "s", source="seg")(sample)
    with pytest.raises(KeyError, match=r"the sample has no 'image'"):
        ConstraintBoundsd(MeanIntensity(classes=[1]), Individual(), "s")(sample)
    with pytest.raises(ValueError, match=r"give Size its classes=\[...\]"):
        ConstraintBoundsd(Size(), Tag(), "s")
    with pytest.raises(ValueError, match=r"give Size its classes=\[...\]"):
        common_bounds([{"patient": "a", **sample}], Root(Size()), patients=["a"])
    with pytest.raises(ValueError, match=r"must be \(1, \*S\) integer classes, got \(3, 6, 7\)"):
        ConstraintBoundsd(Size(classes=[1]), Tag(), "s")({"label": torch.zeros(3, 6, 7)})


def test_errors_of_the_rules() -> None:
    with pytest.raises(ValueError, match=r"Common: lower=5.0 above upper=4.0; swap them"):
        Common(5, 4)
    with pytest.raises(ValueError, match="Individual: margins must be >= 0, got relative=-0.1"):
        Individual(relative=-0.1)
    with pytest.raises(ValueError, match=r"Common: .* has a > b"):
        bounds_of(Size(classes=[1]), Common(-5, -4))
    with pytest.raises(ValueError, match=r"of the K=2 classes, numbers \[1\] never occur in 3 samples"):
        Common.from_values(torch.ones(3, 2, 1), torch.tensor([[1, 0]] * 3))


def patient(name: str, rows: int, classes: tuple[int, ...] = (1, 2)) -> dict[str, object]:
    made = torch.zeros(1, 8, 9, dtype=torch.long)
    for c in classes:
        made[0, :rows, 3 * c : 3 * c + 2] = c
    return {"patient": name, "label": made}


def test_common_bounds_are_of_the_chosen_patients_slices_that_have_the_class() -> None:
    samples = [patient("a", 2), patient("a", 5), patient("a", 4, (2,)), patient("b", 8), patient("c", 1)]
    rule = common_bounds(samples, Size(classes=[2, 1]), patients=["a"])
    torch.testing.assert_close(rule.lower, torch.tensor([[0.9 * 4], [0.9 * 4]]))
    torch.testing.assert_close(rule.upper, torch.tensor([[1.1 * 10], [1.1 * 10]]))
    rule = common_bounds(samples, Size(classes=[1]), patients=["c", "b"], factors=(0.5, 2))
    assert (rule.lower.tolist(), rule.upper.tolist()) == ([[1]], [[32]])
    made = ConstraintBoundsd(Size(classes=[1]), rule, "s")(patient("d", 3, (2,)))
    assert made["s_bounds"].tolist() == [[[0, 0]]]


def test_common_bounds_need_patients() -> None:
    samples = [patient("a", 2, (1,))]
    with pytest.raises(ValueError, match=r"no sample has patient in \['b'\]"):
        common_bounds(samples, Size(classes=[1]), patients=["a", "b"])
    for wrong in ("a", []):
        with pytest.raises(ValueError, match="give a list of one patient or more"):
            common_bounds(samples, Size(classes=[1]), patients=wrong)
    with pytest.raises(ValueError, match=r"numbers \[1\] never occur in 1 samples"):
        common_bounds(samples, Size(classes=[1, 2]), patients=["a"])


def test_residuals_are_those_of_the_loop() -> None:
    values, bounds = torch.randn(4, 3, 2), torch.randn(4, 3, 2, 2)
    bounds[0, :, :, 0], bounds[1, :, :, 1], bounds[2] = -INF, INF, INF
    z = residuals(values, bounds)
    torch.testing.assert_close(torch.where(active(bounds), z, 0).double(), loops.sides(values, bounds, lambda z: z))
    assert (z[~active(bounds)] == -1).all()


def test_bounds_of_one_are_not_taken_for_inactive_sides() -> None:
    bounds = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [torch.nan, torch.nan]]).view(1, 3, 1, 2)
    values = torch.full((1, 3, 1), 5.0, requires_grad=True)
    z, sign = sides(values, bounds)
    assert torch.equal(sign.view(3, 2), torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]))
    assert z.flatten().tolist() == [-6.0, 4.0, -4.0, 6.0, -1.0, -1.0]
    z.square().sum().backward()
    assert values.grad.flatten().tolist() == [20.0, 20.0, 0.0]


def test_infinite_bounds_have_zero_gradient() -> None:
    values = torch.randn(2, 3, 1, requires_grad=True)
    bounds = torch.tensor([-INF, INF]).expand(2, 3, 1, 2)
    residuals(values, bounds).square().sum().backward()
    assert torch.equal(values.grad, torch.zeros(2, 3, 1))


def test_bounds_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"bounds \(2, 3, 2, 2\) do not fit .* values \(2, 3, 1\).*same statistic"):
        residuals(torch.zeros(2, 3, 1), torch.zeros(2, 3, 2, 2))


def test_given_bounds_are_those_of_the_datalist() -> None:
    given = {"size_bounds": [[[10, 20]], [[None, 5]]], "case": "01"}
    out = ConstraintBoundsd(Size(classes=[1, 2]), Given(), "size")(given)["size_bounds"]
    assert torch.equal(out, torch.tensor([[[10.0, 20.0]], [[-torch.inf, 5.0]]]))
    roots = ConstraintBoundsd(Root(Size(classes=[1, 2])), Given(), "size")(given)["size_bounds"]
    torch.testing.assert_close(roots, torch.tensor([[[10.0, 20.0]], [[-torch.inf, 5.0]]]).abs().sqrt() * out.sign())


@pytest.mark.parametrize(
    "given, message",
    [
        ([[[20, 10]], [[0, 5]]], "size_bounds of case '01'.*a > b"),
        ([[[10, 20]]], "expected K=2, got K=1"),
        ([[10, 20], [0, 5]], "expected 2 lists of pairs"),
        ("10-20", "expected 2 lists of pairs"),
    ],
)
def test_given_bounds_that_make_no_sense(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConstraintBoundsd(Size(classes=[1, 2]), Given(), "size")({"size_bounds": given, "case": "01"})


def test_given_bounds_that_are_missing() -> None:
    with pytest.raises(KeyError, match="'01' has no 'size_bounds'"):
        ConstraintBoundsd(Size(classes=[1, 2]), Given(), "size")({"case": "01"})


def test_a_rule_around_predicted_values() -> None:
    """(5.3), where a negative prediction is an absent class and an unknown one has no bound."""
    sample = {"predicted": [[100.0], [-3.0], [None]], "image": torch.zeros(1, 6, 7), "case": "01"}
    size = Size(classes=[1, 2, 3])

    def bounds(statistic: Statistic, rule: BoundsRule) -> list[list[list[float]]]:
        made = ConstraintBoundsd(statistic, rule, "size", source=Values("predicted"))(sample)["size_bounds"]
        return made[:, 0].tolist()

    assert bounds(size, Individual(relative=0.1)) == [[90, pytest.approx(110)], [0, 0], [-INF, INF]]
    assert bounds(size, Tag()) == [[1, 42], [0, 0], [-INF, INF]]
    assert bounds(Root(size), Common(64, 81)) == [[8, 9], [0, 0], [-INF, INF]]
    centroid = ConstraintBoundsd(Centroid(classes=[1]), Individual(absolute=2), "c", source=Values("places"))
    made = centroid({**sample, "places": torch.tensor([[0.0, -5.0]])})["c_bounds"]
    assert made.tolist() == [[[-2, 2], [-7, -3]]]


@pytest.mark.parametrize(
    "predicted, message",
    [
        ([[1.0]], "predicted of case '01': expected K=2, got K=1"),
        ([1.0, 2.0], "expected 2 lists of M numbers"),
        (None, "expected 2 lists of M numbers"),
    ],
)
def test_predicted_values_that_make_no_sense(predicted: object, message: str) -> None:
    transform = ConstraintBoundsd(Size(classes=[1, 2]), Tag(), "size", source=Values("predicted"))
    with pytest.raises(ValueError, match=message):
        transform({"predicted": predicted, "image": torch.zeros(1, 6, 7), "case": "01"})
    with pytest.raises(KeyError, match="'01' has no 'predicted'"):
        transform({"case": "01"})


def test_rules_speak_of_what_is_under_the_root() -> None:
    root = Root(Size(classes=[1, 2]))
    assert bounds_of(root, Individual(relative=0.1))[:, 0].tolist() == [
        pytest.approx([5.4**0.5, 6.6**0.5]), [0, 0]
    ]
    assert bounds_of(root, Tag())[0].tolist() == [pytest.approx([1, 42**0.5])]
    assert bounds_of(root, Unbounded()).tolist() == [[[-INF, INF]]] * 2
    assert bounds_of(Root(Spread(classes=[2])), Tag()).tolist() == [[[-INF, INF]] * 2]
    samples = [patient("a", 2), patient("a", 5)]
    assert common_bounds(samples, root, patients=["a"]).upper.tolist() == pytest.approx(1.1 * torch.full((2, 1), 10.0))


class Apart(Centroid):
    """How far classes lie from each other, one value of several classes."""

    def value(self, sums: Tensor, centre: Tensor) -> Tensor:
        places = super().value(sums, centre)
        return (places[..., :1, :] - places[..., 1:2, :]).square().sum(-1, keepdim=True)


def test_a_relation_of_classes_has_bounds_where_all_of_them_are() -> None:
    assert bounds_of(Apart(classes=[1, 3]), Individual(absolute=1)).flatten().tolist() == [21.25, 23.25]
    assert bounds_of(Apart(classes=[1, 2]), Individual(absolute=1)).tolist() == [[[-INF, INF]]]


def test_common_bounds_of_another_shape() -> None:
    rule = Common([[1.0], [2.0]], [[3.0], [4.0]])
    with pytest.raises(ValueError, match=r"shape \(2, 1\).*\(K, M\) = \(3, 1\)"):
        rule(torch.ones(3, 1), torch.ones(3), voxels=9)
