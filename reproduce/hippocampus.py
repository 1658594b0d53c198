"""Hippocampi of the Medical Decathlon to datalist JSON: `python -m reproduce.hippocampus ROOT OUT.json`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["hippocampus_datalist", "main"]

EVERY = 13  # the first of so many validates


def hippocampus_datalist(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The cases of `imagesTr` and `labelsTr` as {"training": [...], "validation": [...]}; sorted, every 13th validates.

    An item has `image`, `label` (0 background, 1 head, 2 tail) and `case`.

    Raises:
        FileNotFoundError: no images, or an image without label.
    """
    images = [path for path in sorted((root / "imagesTr").glob("*.nii*")) if not path.name.startswith(".")]
    if not images:
        raise FileNotFoundError(f"hippocampus_datalist: no imagesTr/*.nii.gz in {root}; pass the folder of both")
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for number, image in enumerate(images):
        label = root / "labelsTr" / image.name
        if not label.is_file():
            raise FileNotFoundError(f"hippocampus_datalist: {image} has no {label}; restore it, or remove the image")
        paths = {"image": str(image.absolute()), "label": str(label.absolute())}
        datalist["training" if number % EVERY else "validation"].append({**paths, "case": image.name.split(".")[0]})
    return datalist


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m reproduce.hippocampus", description=hippocampus_datalist.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(hippocampus_datalist(given.root), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
