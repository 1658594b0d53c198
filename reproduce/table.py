"""A table of the thesis from one command: train what is missing, then write the report.

    python -m reproduce.table TABLE.yaml --protocol cpu --out FOLDER [-- BUNDLE OPTIONS]
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reproduce.plan import Run, changed_keys, make_plan, read_record
from reproduce.provenance import describe
from reproduce.report import Heading, write_report
from reproduce.results import Group
from reproduce.runner import locked, run_all
from reproduce.table_file import Table, read_table

__all__ = ["report_table"]

logger = logging.getLogger(__name__)

TAIL = 10  # lines of a failed run's log


def report_table(table: Table, protocol: str, plan: Sequence[Run], out: Path, *, strict: bool = True) -> str:
    """Write the report of what `plan` has done so far, and return its table.

    Args:
        table, protocol: whose plan it is.
        plan: from `make_plan`, of all rows that should be shown as runs.
        out: the folder.
        strict: whether bundle options of the command line must be those that the runs had.
    """
    groups, records = [], []
    for row in table.rows:
        group = Group(row.name, row.label, published=dict(row.published), pending=row.pending)
        for run in (run for run in plan if run.row.name == row.name):
            record = read_record(run)
            given = [] if strict else [key.partition("#")[0] for key in record.get("extra", {})]
            changed = changed_keys(run, ignore=given)
            status = record.get("status", "not run yet")
            group.command = group.command or record.get("command", run.command)
            if changed:
                group.problems.append(f"seed {run.seed}: made with another {', '.join(changed)}")
            elif status == "done":
                group.folders.append(run.folder)
                records.append(record)
            else:
                group.problems.append(f"seed {run.seed}: {status}")
            if status == "failed":
                group.log = group.log or _end_of_log(run.folder / "log.txt")
        if not row.pending and not any(run.row.name == row.name for run in plan):
            group.problems.append("not asked for")
        groups.append(group)
    heading = Heading(
        title=table.title,
        lines=[
            f"Published: {table.source}.",
            f"Ours, protocol {protocol}: {table.protocols[protocol].note}",
            *_made_with(records),
        ],
        notes=table.notes,
        metrics=table.metrics,
        reference=table.reference,
        selection=table.selection,
    )
    return write_report(groups, out, heading)


def _end_of_log(path: Path) -> str:
    """The messages of the last errors, of which the cause comes first, and the last lines."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines[:-TAIL] if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return "\n".join(errors[-5:] + lines[-TAIL:])


def _made_with(records: Sequence[Mapping[str, object]]) -> list[str]:
    """A sentence for each set of options given, and for each combination of machine, versions and commit."""
    lines: dict[str, None] = {}
    for record in records:
        extra = record.get("extra")
        if isinstance(extra, dict) and extra:
            given = " ".join(f"--{name} {value}" for name, value in extra.items())
            lines[f"Besides the protocol, on the command line: `{given}`."] = None
        machine, versions = record.get("machine"), record.get("versions")
        if isinstance(machine, dict) and isinstance(versions, dict):
            gpus = ", ".join(dict.fromkeys(machine.get("gpus", []))) or "no GPU"
            if gpus == "no GPU" and "cpu_bfloat16" in machine:  # what the bundles' mixed precision depends on there
                gpus += ", bfloat16" if machine["cpu_bfloat16"] else ", float32"
            text = f"{machine.get('cpu')}, {machine.get('cores')} cores, {record.get('threads')} threads a run, {gpus}"
            text += "; " + ", ".join(f"{name} {version}" for name, version in versions.items())
            lines[f"Made on {str(record.get('start'))[:10]}: {text}; commit {record.get('commit')}."] = None
    return list(lines)


def _options(words: Sequence[str]) -> dict[str, str]:
    """{'dataset_dir': 'X'} from ['--dataset_dir', 'X'] or ['--dataset_dir=X']."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    names, values = parts[::2], parts[1::2]
    if len(parts) % 2 or not all(name.startswith("--") for name in names):
        raise ValueError(f"table: after '--' expected pairs '--option value' of the bundle, got {' '.join(words)}")
    return {name[2:]: value for name, value in zip(names, values)}


def _parse(words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.table",
        description="Train the rows of a table that are not done yet, and write the report.",
        epilog="Options after '--' go to the bundle, e.g. -- --dataset_dir /data/acdc",
    )
    parser.add_argument("table", help="YAML file, e.g. reproduce/tables/2_1.yaml")
    parser.add_argument("--protocol", help="one of the file's protocols; may be left out where there is one")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs and the report")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side (default 1)")
    parser.add_argument("--gpus", default="", help="ids that the workers take in turn, e.g. 0,1")
    parser.add_argument("--rows", help="only these, e.g. tags,full")
    parser.add_argument("--seeds", help="instead of the protocol's, e.g. 0,1")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    parser.add_argument("--selection", choices=["last", "legacy"], help="legacy: the papers' choice of the epoch")
    parser.add_argument("--redo", action="store_true", help="train runs of another configuration again")
    at = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:at]), _options(words[at + 1 :])


def main(words: Sequence[str]) -> int:
    """The command; 0: all is done, 1: something failed or is missing, 2: wrong arguments."""
    try:
        arguments, extra = _parse(words)
        table = read_table(arguments.table)
        if arguments.selection:
            table = dataclasses.replace(table, selection=arguments.selection)
        protocol = arguments.protocol or next(iter(table.protocols))
        if protocol not in table.protocols or (len(table.protocols) > 1 and not arguments.protocol):
            raise ValueError(f"table: choose --protocol among {list(table.protocols)}")
        if arguments.workers < 1 or (table.serial and arguments.workers > 1):
            raise ValueError("table: --workers must be 1 or more, and 1 where rows are timed (serial: true)")
        rows = arguments.rows.split(",") if arguments.rows else None
        seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else None
        chosen = table.protocols[protocol]
        whole = make_plan(table, chosen, arguments.out, extra=extra, seeds=seeds)
        plan = make_plan(table, chosen, arguments.out, extra=extra, rows=rows, seeds=seeds)
        strict = bool(extra) or not arguments.report_only
        if arguments.report_only:
            logger.info("%s", report_table(table, protocol, whole, arguments.out, strict=strict))
            return 0
        with locked(arguments.out):
            done = run_all(
                plan, workers=arguments.workers, gpus=[g for g in arguments.gpus.split(",") if g], redo=arguments.redo,
                provenance=describe(table.bundle), extra=extra,
                after_each=lambda: report_table(table, protocol, whole, arguments.out),
            )  # fmt: skip
            logger.info("\n%s\nwritten in %s", report_table(table, protocol, whole, arguments.out), arguments.out)
            return 0 if done else 1
    except KeyboardInterrupt:
        logger.error("table: stopped; the same command goes on")
        return 130
    except (OSError, ValueError) as error:
        logger.error("%s", error)
        return 2


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sys.exit(main(sys.argv[1:]))
