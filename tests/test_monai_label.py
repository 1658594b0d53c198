"""The bundles in YAML, trained and used by MONAI Label 0.8.5's own tasks.

MONAI Label pins NumPy below 2, so it has no place in this project's environment and these tests are skipped there. In
an environment of its own (3 GB): `pip install torch==2.13.0`, then MONAI Label's requirements without numpymaxflow and
with pydicom<3, then `pip install --no-deps monailabel==0.8.5 pydicom-seg==0.4.1` and this package with what
tests/bundle_data.py imports; then `python -m pytest tests/test_monai_label.py`. `monailabel.tasks.infer.bundle` imports
two functions of torchvision that these bundles never call; where torchvision is not installed they are put in place.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_data import read_csv
from shrunk import WITH_FILES, four_cases, shrunk

pytest.importorskip("monailabel", reason="MONAI Label is not installed; the docstring says how")
from monailabel.datastore.local import LocalDatastore  # noqa: E402
from monailabel.tasks.train.bundle import BundleTrainTask  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of its own old dependencies
# those whose label MONAI Label can hand over as one file beside one image; others take several images a case.
BUNDLES = [name for name in WITH_FILES if name in ("acdc", "acdc_lv", "vertebral_bodies", "stroke_flair")]


@pytest.fixture
def infer_task(monkeypatch: pytest.MonkeyPatch) -> Any:
    try:
        import torchvision.utils  # noqa: F401
    except ImportError:
        package, utils = ModuleType("torchvision"), ModuleType("torchvision.utils")
        vars(utils).update(make_grid=None, save_image=None)
        monkeypatch.setitem(sys.modules, "torchvision", package)
        monkeypatch.setitem(sys.modules, "torchvision.utils", utils)
    from monailabel.tasks.infer.bundle import BundleInferTask

    return BundleInferTask


def datastore(bundle: str, folder: Path) -> LocalDatastore:
    """Four cases as its viewer leaves them: images, and final labels of the same names."""
    (folder / "labels" / "final").mkdir(parents=True)
    for item in four_cases(bundle, folder.parent / "data"):
        name = item["case"] + ".nii" + ".gz" * item["image"].endswith(".gz")
        shutil.copyfile(item["image"], folder / name)
        shutil.copyfile(item["label"], folder / "labels" / "final" / name)
    return LocalDatastore(str(folder), extensions=["*.nii.gz", "*.nii"], auto_reload=False)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_trained_and_used(bundle: str, tmp_path: Path, infer_task: Any) -> None:
    folder = shrunk(bundle, tmp_path / bundle)
    store = datastore(bundle, tmp_path / "studies")
    model = folder / "models" / "model.pt"

    options = BundleTrainTask(str(folder), {}).config()
    assert options["max_epochs"] == 2 and options["learning_rate"] > 0 and options["batch_size"] >= 1
    asked = {**options, "model": bundle, "device": "cpu", "run_id": "run", "tracking": "None", "val_split": 0.25}
    asked["model_filename"] = "model.pt"  # the list of choices is empty before the first training
    BundleTrainTask(str(folder), {})({**asked, "max_epochs": 3, "learning_rate": 0.01}, store)
    first = torch.load(model, weights_only=True)
    rows = read_csv(folder / "models" / "metrics.csv")
    rates = [float(row["lr"]) for row in rows]
    # The schedule comes to its end with the epochs that were asked for, not with the bundle's.
    assert rates == pytest.approx([0.01, 0.0075, 0.0025]) and all(row["val_dice"] for row in rows)
    config = yaml.safe_load((folder / "models" / "config.yaml").read_text())
    assert config["train"]["trainer"]["max_epochs"] == 3 and len(config["train"]["dataset"]["data"]) == 3

    # From the weights of the first, which nothing is learnt to.
    BundleTrainTask(str(folder), {})({**asked, "max_epochs": 1, "learning_rate": 0.0}, store)
    second = torch.load(model, weights_only=True)
    learnt = [name for name in first if name.endswith((".weight", ".bias"))]
    assert learnt and all(torch.equal(first[name], second[name]) for name in learnt)

    task = infer_task(str(folder), {})
    assert task.is_valid() and task.labels and "background" not in task.labels
    image = next(iter(store.datalist()))["image"]
    file, result = task({"image": image, "model": bundle, "device": "cpu"})
    mask, source = nib.load(file), nib.load(image)
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-4)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, *task.labels.values()}
    assert result["label_names"] == task.labels
    assert not (folder / "models" / "predictions").exists()
