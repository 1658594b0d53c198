"""Finished runs side by side, wherever they lie: the report of a table without a table.

    python -m reproduce.compare RUN [RUN ...] --out FOLDER
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduce.report import Heading, write_report
from reproduce.results import Group, read_run

__all__ = ["compare_runs"]

logger = logging.getLogger(__name__)


def compare_runs(folders: Sequence[str | Path], out: str | Path) -> str:
    """Write table.md, table.csv and the pictures of these runs into `out`, and return the text of table.md.

    Args:
        folders: the runs' output folders; the row's name is the folder's.
        out: where to write.

    Raises:
        FileNotFoundError: where a folder has no metrics.csv with at least one epoch.
        ValueError: where no epoch was validated, or two folders have one name.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"compare: folders {names}; rename those that have the same name")
    for path in paths:
        read_run(path)
    groups = [Group(path.name, path.name.replace("_", " "), folders=[path]) for path in paths]
    return write_report(groups, Path(out), Heading(title="Runs side by side"))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.compare", description="Compare finished runs."
    )
    parser.add_argument("runs", nargs="+", help="output folders with a metrics.csv")
    parser.add_argument("--out", required=True, help="folder for table.md, table.csv and the pictures")
    arguments = parser.parse_args()
    logger.info("\n%s\nwritten in %s", compare_runs(arguments.runs, arguments.out), arguments.out)


if __name__ == "__main__":
    main()
