"""The few hippocampi of `one_setting.yaml` as datalist JSON: `python -m reproduce.hippocampus ROOT OUT.json`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from monai_constraints.data import write_datalist
from monai_constraints.data.datasets.hippocampus import hippocampus_datalist

__all__ = ["main"]

EVERY = 13  # the first of so many validates in that table, which is older than the bundle and its split


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m reproduce.hippocampus", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    write_datalist(hippocampus_datalist(given.root, every=EVERY), given.out)


if __name__ == "__main__":
    main()
