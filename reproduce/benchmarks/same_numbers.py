"""Whether two commits train the same: every bundle and row on miniature data, losses and weights compared.

    python -m reproduce.benchmarks.same_numbers train CHECKOUT OUT     once for each checkout, in a process of its own
    python -m reproduce.benchmarks.same_numbers compare OUT_A OUT_B

For checkouts whose bundles are JSON (version 0.1 up to the commit before the bundles became YAML).
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import pandas as pd
import torch


def train(checkout: Path, out: Path) -> None:
    """Two epochs of each bundle and of each of its rows, in float32, with the settings of the checkout's tests."""
    sys.path[:0] = [str(checkout), str(checkout / "tests")]
    import bundle_data  # type: ignore[import-not-found]

    made = {name: {"dataset_dir": str(make(out / "data" / name))} for name, make in bundle_data.MAKE.items()}
    for bundle in bundle_data.NAMES:
        rows = sorted(path.stem for path in (bundle_data.BUNDLES / bundle / "configs" / "rows").glob("*.json"))
        for row in [None, *rows]:
            folder = out / "runs" / f"{bundle}-{row or 'train'}"
            given = {**made.get(bundle, {}), "output_dir": str(folder), "max_epochs": 2, "mixed_precision": False}
            try:
                bundle_data.run(bundle, "train", *([f"rows/{row}"] if row else []), **given)
            except RuntimeError as error:  # a row that needs options of its own
                logging.warning("%s %s: %s", bundle, row, str(error).splitlines()[0])


def compare(first: Path, second: Path) -> None:
    """The largest relative difference of an epoch's loss, and of a weight, for each run."""
    for a in sorted((first / "runs").iterdir()):
        b = second / "runs" / a.name
        if not (a / "model.pt").is_file() or not (b / "model.pt").is_file():
            print(f"{a.name}: only in one")  # noqa: T201 - a benchmark's result
            continue
        losses = [pd.read_csv(folder / "metrics.csv")["loss"] for folder in (a, b)]
        found = [torch.load(folder / "model.pt", weights_only=True) for folder in (a, b)]
        weights = [state.get("model", state) for state in found]
        apart = max(float((weights[0][key].float() - weights[1][key].float()).abs().max()) for key in weights[0])
        loss = float(((losses[0] - losses[1]).abs() / losses[0].abs().clip(lower=1)).max())
        print(f"{a.name}: loss {loss:.1e}, weights {apart:.1e}")  # noqa: T201


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    {"train": train, "compare": compare}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
