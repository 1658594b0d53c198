from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from bundles import Runs, configs, settings
from monai_constraints.constraints import Common, Individual, Size, Tag
from monai_constraints.losses import PartialCrossEntropy
from monai_constraints.transforms import AbsentAnnotatedd, ConstraintBoundsd, PointLabeld

RULES = [Tag(), Individual(relative=0.1), Common(3.0, 40.0)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_an_empty_slice_is_background_and_others_stay(rule: Tag | Individual | Common) -> None:
    label = torch.zeros(1, 9, 7, dtype=torch.uint8)
    weaken = PointLabeld(classes=[1], radius=1, seed=0), ConstraintBoundsd(Size(classes=[1]), rule, "size")
    annotate = AbsentAnnotatedd()
    empty = weaken[1](weaken[0]({"label": label, "case": "a", "slice": 0}))
    before = dict(empty)
    after = annotate(empty)
    assert empty == before and bool((before["weak"] == 255).all()), "nothing was labelled, and the sample is left alone"
    assert after["weak"].dtype == torch.uint8 and not after["weak"].any()
    assert after["size_bounds"] is before["size_bounds"]
    label = label.clone()
    label[0, 2:7, 2:6] = 1
    full = weaken[1](weaken[0]({"label": label, "case": "a", "slice": 1}))
    assert all(annotate(full)[key] is full[key] for key in full)


def test_its_pixels_count_as_much_as_the_marks_of_another() -> None:
    weak = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    weak[0, 0, 3, 3] = 1
    weak[1] = 0
    logits = torch.zeros(2, 2, 8, 8, requires_grad=True)
    PartialCrossEntropy(softmax=True, reduction="sample")(logits, weak).backward()
    assert logits.grad is not None
    mark, background = logits.grad[:, 1].abs().sum(dim=(1, 2))
    assert mark.item() == pytest.approx(background.item()) and mark > 0


def test_one_present_class_is_enough_to_stay() -> None:
    bounds = torch.tensor([[[0.0, 0.0]], [[1.0, 9.0]]])
    sample = {"weak": torch.full((1, 4, 4), 255, dtype=torch.uint8), "size_bounds": bounds}
    assert AbsentAnnotatedd()(sample)["weak"] is sample["weak"]
    sample["size_bounds"] = torch.zeros(2, 1, 2)
    assert not AbsentAnnotatedd()(sample)["weak"].any()


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_it_goes_with_hybrid_training(runs: Runs) -> None:
    """One volume has its label; of the others the empty slices are background, all pixels weighing alike."""
    parser = ConfigParser(ConfigParser.load_config_files(configs("acdc_lv", "train", "rows/tags", "rows/hybrid")))
    for key, value in settings("acdc_lv", "hybrid", dataset_dir=str(runs.data("acdc_lv"))).items():
        parser[key] = value
    assert parser.get_parsed_content("loss").terms["ce"].loss.reduction == "voxel"
    (full,) = parser.get_parsed_content("full_cases")
    counts = {"full": 0, "empty": 0, "marked": 0}
    for sample in parser.get_parsed_content("train#dataset"):
        weak, bounds = sample["weak"], sample["size_bounds"].flatten().tolist()
        if sample["case"] == full:
            assert not (weak == 255).any() and bounds == [-float("inf"), float("inf")]
            counts["full"] += 1
        elif bounds == [0, 0]:
            assert not weak.any()
            counts["empty"] += 1
        else:
            assert set(weak.unique().tolist()) == {1, 255}
            counts["marked"] += 1
    assert all(counts.values()), counts


def test_what_is_missing_is_said() -> None:
    with pytest.raises(KeyError, match="lacks .'size_bounds'.*put the transforms"):
        AbsentAnnotatedd()({"weak": torch.zeros(1, 2, 2)})
    with pytest.raises(ValueError, match="list of one constraint"):
        AbsentAnnotatedd(bounds="size")
