from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from conftest import data_root

from monai_constraints.transforms.annotation.scribbles import FullLabeld, ScribbleLabeld


def test_full_label_is_the_label() -> None:
    label = torch.arange(4 * 5).reshape(1, 4, 5)
    weak = FullLabeld(output="target")({"label": label})["target"]
    assert weak.dtype == torch.uint8 and weak.tolist() == label.tolist()


def test_scribbles() -> None:
    scribble = np.array([[[0.0, 4, 4], [2, 9, 1]]])
    weak = ScribbleLabeld(classes=3, unknown_values=(4, 9), unknown=200)({"scribble": scribble})["weak"]
    assert weak.tolist() == [[[0, 200, 200], [2, 200, 1]]]
    message = r"case 'p7' holds \[4, 9\], expected 0 to 2 or unknown_values=\[5\]"
    with pytest.raises(ValueError, match=message):
        ScribbleLabeld(classes=3, unknown_values=[5])({"scribble": scribble, "case": "p7"})
    with pytest.raises(ValueError, match=r"holds \[-1\]"):
        ScribbleLabeld(classes=3)({"scribble": np.array([[[0, -1]]])})


def test_acdc_scribbles() -> None:
    path = data_root("acdc") / "patient001" / "patient001_frame01_scribble.nii.gz"
    scribble = np.asanyarray(nibabel.load(path).dataobj)[None]
    weak = ScribbleLabeld(classes=4)({"scribble": scribble})["weak"].numpy()
    assert set(np.unique(weak)) == {0, 1, 2, 3, 255} and ((weak == 255) == (scribble == 4)).all()
