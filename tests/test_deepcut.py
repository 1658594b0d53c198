"""DeepCut: proposals inside of boxes, new ones every few epochs, and a resumed training that is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from monai_constraints.constraints.intervals import box_mask
from monai_constraints.data import CachedSlices, slice_loader
from monai_constraints.engines import PrepareTargets
from monai_constraints.handlers import DeepCut, EpochSeed, Resume
from monai_constraints.losses import PartialCrossEntropy, Term, WeightedSum
from monai_constraints.networks import reinitialise
from monai_constraints.transforms import BoxesFromLabeld, BoxToWeakd, DenseCRF

pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed: the extra crf")

SIZE = 20


def case(sample: dict[str, Any]) -> dict[str, Any]:
    """Three slices of two discs with overlapping boxes, a small bright one in a larger grey one, and an empty slice."""
    rng = np.random.default_rng(int(sample["case"]))
    x, y = np.ogrid[:SIZE, :SIZE]
    image, label = rng.normal(0, 0.03, (1, SIZE, SIZE, 4)), np.zeros((1, SIZE, SIZE, 4))
    for z in range(3):
        (i, j), (large, small) = rng.integers(7, SIZE - 7, 2), (6, 3)
        for k, radius in enumerate((large, small)):
            disc = (x - i) ** 2 + (y - j) ** 2 <= radius**2
            image[0, ..., z][disc], label[0, ..., z][disc] = 0.4 + 0.6 * k, 1 + k
    return {**sample, "image": torch.as_tensor(image).float(), "label": torch.as_tensor(label).byte()}


def slices(*more: Any, count: int = 3, **options: Any) -> CachedSlices:
    cases = [{"case": str(number)} for number in range(count)]
    annotate = [BoxesFromLabeld(classes=[1, 2]), BoxToWeakd(inside="class"), *more]
    return CachedSlices(cases, case, annotate=annotate, **options)


def masks(dataset: CachedSlices) -> Tensor:
    return box_mask(torch.stack([dataset[i]["boxes"] for i in range(len(dataset))]), (SIZE, SIZE))


def make(
    dataset: CachedSlices, *, path: Path | None = None, resume: bool = False, epochs: int = 5, **options: Any
) -> tuple[SupervisedTrainer, DeepCut]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1))
    deepcut = DeepCut(dataset, **{"every": 2, "workers": 0, **options})
    loss = WeightedSum({"ce": Term(PartialCrossEntropy())})
    loader = slice_loader(dataset, batch_size=5)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=epochs, train_data_loader=loader, network=network, optimizer=optimizer,
        loss_function=loss, prepare_batch=PrepareTargets(loss.target_keys), decollate=False,
        train_handlers=[deepcut, EpochSeed(0, data_loader=loader)],
    )  # fmt: skip
    if path is not None:
        save: Any = {"network": network, "optimizer": optimizer, "deepcut": deepcut}
        Resume(path, save=save, resume=resume).attach(trainer)
    return trainer, deepcut


def targets(dataset: CachedSlices) -> Tensor:
    return torch.stack([item["weak"] for item in (dataset[i] for i in range(len(dataset)))])


def test_proposals_stay_inside_of_the_boxes_of_their_class() -> None:
    dataset = slices()
    boxes, before = masks(dataset), targets(dataset)
    trainer, deepcut = make(dataset, epochs=4)
    trainer.run()
    after = targets(dataset)
    assert not torch.equal(before, after)
    for k in (1, 2):
        assert (after == k).any() and not ((after[:, 0] == k) & (boxes[:, k - 1] == 0)).any()
    empty = ~(boxes > 0).flatten(1).any(1)
    assert int(empty.sum()) == 3 and not after[empty].any()
    filled = (after > 0).sum() / (boxes > 0).any(1).sum()
    each = [float((after[:, 0] == k).sum() / boxes[:, k - 1].sum()) for k in (1, 2)]
    assert 0.3 < filled < 1 and deepcut.filled == pytest.approx([float(filled), *each])


def test_they_are_the_argmax_of_the_field_among_the_classes_that_may_be_there() -> None:
    dataset = slices()
    trainer, deepcut = make(dataset, crf=DenseCRF(iterations=2))
    rng = torch.get_rng_state()
    new = deepcut.update(trainer)
    assert torch.equal(rng, torch.get_rng_state()) and trainer.network.training
    assert torch.equal(new, targets(dataset)) and new.dtype == torch.uint8
    trainer.network.eval()
    for i in (0, 5, 9):
        with torch.no_grad():
            s = trainer.network(dataset[i]["image"][None]).softmax(1)[0].numpy()
        q, box = DenseCRF(iterations=2)(s, dataset[i]["image"].numpy()), masks(dataset)[i].numpy()
        for x in range(SIZE):
            for y in range(SIZE):
                may = [0] + [k for k in (1, 2) if box[k - 1, x, y]]
                assert int(new[i, 0, x, y]) == max(may, key=lambda k: q[k, x, y])  # noqa: B023


def test_proposals_that_vanish_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    wide = DenseCRF(bilateral_spatial_sigma=40, bilateral_color_sigma=40, bilateral_weight=100)
    for crf, gone in ((wide, True), (DenseCRF(), False)):
        caplog.clear()
        trainer, deepcut = make(slices(), epochs=3, crf=crf)
        trainer.run()
        assert (min(deepcut.filled[1:]) < 0.02) is gone
        warned = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "DeepCut" in r.getMessage()]
        assert bool(warned) is gone
        if gone:
            assert "after epoch 2" in warned[0] and "[1, 2]" in warned[0] and "40 voxels" in warned[0]


def test_volumes(tmp_path: Path) -> None:
    dataset = slices(axis=None)
    box, before = box_mask(torch.stack([item["boxes"] for item in dataset]), (SIZE, SIZE, 4)), targets(dataset)
    trainer, _ = make(slices(), epochs=1)
    trainer.network = nn.Conv3d(1, 3, 3, padding=1)
    deepcut = DeepCut(dataset, workers=0, picture=tmp_path / "proposals.png")
    deepcut._begin(trainer)
    after = targets(dataset)
    assert before.shape == after.shape == (3, 1, SIZE, SIZE, 4) and not torch.equal(before, after)
    assert not any(((after[:, 0] == k) & (box[:, k - 1] == 0)).any() for k in (1, 2))
    assert (tmp_path / "proposals.png").stat().st_size > 5000


def test_processes_make_the_same(tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        trainer, deepcut = make(slices(), workers=workers, picture=tmp_path / "proposals.png", progress=workers > 0)
        found.append(deepcut.update(trainer))
    assert torch.equal(*found)


def test_every_so_many_epochs(tmp_path: Path) -> None:
    dataset = slices()
    seen = [targets(dataset)]
    trainer, _ = make(dataset, epochs=5, picture=tmp_path / "proposals.png")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(targets(dataset)))
    trainer.run()
    changed = [epoch for epoch, (a, b) in enumerate(zip(seen, seen[1:]), 1) if not torch.equal(a, b)]
    assert changed == [3, 5] and (tmp_path / "proposals.png").stat().st_size > 5000


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("stopped", [2, 3])
def test_resumed_it_is_the_same(new: bool, stopped: int, tmp_path: Path) -> None:
    ends = []
    for part in ("whole", "parts"):
        path = tmp_path / f"{part}.pt"
        if part == "parts":
            make(slices(), path=path, epochs=stopped, reinitialise=new)[0].run()
        dataset = slices()
        trainer, deepcut = make(dataset, path=path, resume=part == "parts", epochs=5, reinitialise=new)
        trainer.run()
        ends.append([*trainer.network.state_dict().values(), targets(dataset), deepcut.state_dict()["history"]])
    assert all(torch.equal(a, b) for a, b in zip(*ends)) and ends[0][-1].shape[:2] == (3, 4)


def test_the_network_begins_anew_and_the_optimiser_does_not() -> None:
    weights: dict[bool, Tensor] = {}
    for new in (False, True):
        trainer, _ = make(slices(), epochs=3, reinitialise=new)
        network: Any = trainer.network

        def look(engine: Any, new: bool = new, network: Any = network) -> None:
            if engine.state.epoch == 3:
                weights[new] = network[0].weight.detach().clone()
                assert engine.optimizer.state[network[0].weight]["step"] == 6  # three steps an epoch
                assert (network[1].num_batches_tracked == 0) == new

        trainer.add_event_handler(Events.EPOCH_STARTED, look)
        trainer.run()
    again: Any = make(slices())[0].network
    rng = torch.get_rng_state()
    reinitialise(again, [0, 3])
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.equal(weights[True], again[0].weight) and not torch.equal(weights[False], weights[True])


def test_a_weight_that_nobody_draws_is_refused() -> None:
    trainer, _ = make(slices(), reinitialise=True)
    trainer.network.register_parameter("own", nn.Parameter(torch.ones(1)))
    with pytest.raises(ValueError, match=r"\['own'\] of the network belong to modules without reset_parameters"):
        trainer.run()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every=0"):
        DeepCut(slices(), every=0)
    with pytest.raises(KeyError, match=r"lacks \['boxes'\].*leave them out of `drop`"):
        DeepCut(slices(drop=["boxes"]))
    with pytest.raises(TypeError, match="without augment"):
        DeepCut(slices(augment=lambda item: item))
    with pytest.raises(ValueError, match="no slice has a box"):
        DeepCut(slices(lambda item: {**item, "boxes": 0 * item["boxes"]}))
    with pytest.raises(ValueError, match=r"weak .*and boxes .*expected"):
        DeepCut(slices(lambda item: {**item, "boxes": item["boxes"][:, :, :1]}))
    trainer, _ = make(slices())
    one = DeepCut(slices(lambda item: {**item, "boxes": item["boxes"][:1]}), workers=0)
    with pytest.raises(ValueError, match="the network has 3 channels, the boxes 1"):
        one.update(trainer)
    make(slices(), path=tmp_path / "a.pt", epochs=3)[0].run()
    with pytest.raises(ValueError, match="the deepcut in .* does not fit"):
        make(slices(count=1), path=tmp_path / "a.pt", resume=True)[0].run()
