"""Finds, copies, trains, evaluates and uses the bundles; what it starts is `monai.bundle run`.

Nothing heavy is imported before a run starts, so that lists and help come at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["bundle_folder", "main"]

# In a wheel the bundles lie inside of the package, in the repository beside it.
INSTALLED, BESIDE = Path(__file__).parent / "bundles", Path(__file__).parents[1] / "bundles"
BUNDLES = INSTALLED if INSTALLED.is_dir() else BESIDE
OPTIONS = "every further `--option value` is the configuration's, such as --max_epochs 20"


class Refused(Exception):
    """What the command was asked for cannot be done; its text says why, and what to do."""


def shipped() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))


def bundle_folder(name: str) -> Path:
    """The folder of a bundle, absolute: a folder that has one, or the name of a shipped one."""
    if (Path(name) / "configs").is_dir():
        return Path(name).absolute()
    if name in shipped():
        return BUNDLES / name
    raise Refused(f"{name} is neither a folder with configs/ nor one of the bundles {', '.join(shipped())}")


def bundles(name: str | None) -> int:
    """Write a line for each bundle, or for each row of one."""
    if name is None:
        metadata = ((one, BUNDLES / one / "configs" / "metadata.json") for one in shipped())
        lines = [(one, json.loads(path.read_text(encoding="utf-8"))["task"]) for one, path in metadata]
    else:
        rows = sorted((bundle_folder(name) / "configs" / "rows").glob("*.yaml"))
        lines = [(path.stem, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")) for path in rows]
    width = max((len(one) for one, _ in lines), default=0)
    sys.stdout.writelines(f"{one:{width}}  {text}\n" for one, text in lines)
    return 0


def listed(name: str | None) -> int:
    """`bundles`, for a reader who may stop reading, as `head` does."""
    try:
        code = bundles(name)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        return 0


def copy(name: str, folder: str) -> int:
    """Copy the bundle to a folder that is new or empty; weights and other outputs in it stay behind."""
    source, target = bundle_folder(name), Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"{target} is there already; name a folder that is new or empty")
    leave = shutil.ignore_patterns("models", "__pycache__")
    shutil.copytree(source, target, copy_function=shutil.copyfile, ignore=leave, dirs_exist_ok=True)
    return 0


def train(name: str, rows: Sequence[str], options: dict[str, Any]) -> tuple[list[Path], dict[str, Any]]:
    """The files and options that train a bundle: the rows over train.yaml, and several processes under torchrun."""
    bundle = bundle_folder(name)
    files = [bundle / "configs" / "train.yaml", *(row_file(bundle, row) for row in rows)]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        files.append(bundle / "configs" / "multi_gpu_train.yaml")
    if bundle.parent == BUNDLES:  # never into the installed package
        options = {"output_dir": str(Path(bundle.name).absolute()), **options}
    return files, {"bundle_root": str(bundle), **options}


def row_file(bundle: Path, row: str) -> Path:
    """The file of a row of the bundle by its name, or an overlay of the user's by its path."""
    path, rows = Path(row), bundle / "configs" / "rows"
    named = rows / f"{row}.yaml"
    if path.suffix not in (".yaml", ".yml", ".json") and named.is_file():
        return named
    if path.is_file():
        return path
    found = ", ".join(sorted(one.stem for one in rows.glob("*.yaml")))
    raise Refused(f"{row} is neither a file nor a row of {bundle.name}; its rows are {found}")


def finished(name: str, file: str) -> Path:
    """A configuration beside the weights of a run, which is complete: of a run's folder, or of a bundle's models/."""
    for folder in (Path(name), Path(name) / "models"):
        if (folder / file).is_file():
            return folder / file
    raise Refused(f"{name} is not the folder of a run, it has no {file}; train first: monai-constraints train")


def typed(arguments: Sequence[str]) -> dict[str, Any]:
    """`--name value` and `--name=value` as a dict, with values as MONAI's command line reads them: fire's way."""
    from fire.parser import DefaultParseValue

    options: dict[str, Any] = {}
    left = list(arguments)
    while left:
        option, equals, value = left.pop(0).partition("=")
        if not option.startswith("--"):
            raise Refused(f"{option} belongs to no option; options are given as --name value, after the bundle")
        name = option[2:].replace("-", "_")
        if name == "config_file" or name in options:
            reason = "is made from the bundle and --rows" if name == "config_file" else "is given twice"
            raise Refused(f"--{name} {reason}; leave it out")
        if not equals and left and not left[0].startswith("--"):
            equals, value = "=", left.pop(0)
        options[name] = DefaultParseValue(value) if equals else True
        if isinstance(options[name], str) and value[:1] + value[-1:] == "[]":
            options[name] = _names(value)
    return options


def _names(text: str) -> Any:
    """A list of words with spaces in them, such as [left ventricle], which fire leaves as text."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def semi(given: argparse.Namespace, options: dict[str, Any]) -> int:
    """Regressor, predictions and segmentation in one folder (thesis chapter 5)."""
    from monai_constraints.chain import draw_gain, run_stages, stages_of

    folder, further = Path(given.folder).absolute(), typed(shlex.split(given.regressor))
    for row in filter(None, given.rows.split(",")):
        row_file(bundle_folder("acdc_semi"), row)
    own = bundle_folder("acdc_size") / "configs" / "rows"
    shared = ",".join(row for row in given.rows.split(",") if (own / f"{row}.yaml").is_file())
    stages = stages_of(
        folder, options=options, regressor=further, rows=given.rows, regressor_rows=shared, alone=given.alone
    )
    try:
        code = run_stages(folder, stages, {**options, "regressor": given.regressor})
    except ValueError as error:
        raise Refused(str(error)) from error
    if given.alone and not code:
        draw_gain(folder, stages[1].made.parent)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser("monai-constraints", description=about, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, what: str = "", **places: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=what, allow_abbrev=False)
        for place, meaning in places.items():
            sub.add_argument(place, help=meaning, nargs="?" if name == "bundles" else None)
        if what:
            sub.add_argument("--debug", action="store_true", help="show errors with their traceback")
        return sub

    bundle = "the name of a bundle, or the folder of one"
    command("bundles", "list the bundles, or the rows of one", bundle=bundle)
    command("copy", "copy a bundle to a folder of yours, to change it", bundle=bundle, folder="a new or empty folder")
    sub = command("train", "train a bundle", OPTIONS, bundle=bundle)
    sub.add_argument("--rows", default="", help="overlays with commas between: rows of the bundle, or your own files")
    sub.add_argument("--output_dir", help="folder of the run; without it the bundle's name, or models/ of your copy")
    sub = command("semi", "a few annotated patients and many others: regressor, sizes, segmentation", OPTIONS,
                  folder="the folder of all three; the same command goes on where it stopped")  # fmt: skip
    sub.add_argument("--rows", default="", help="of the segmentation, such as consistency")
    sub.add_argument("--regressor", default="", help="further options of the regressor, in one text")
    sub.add_argument("--alone", action="store_true", help="train the annotated cases by themselves too, and compare")
    sub = command("evaluate", "measure a trained run", OPTIONS, run="the folder of a run, or of a bundle trained in it")
    sub = command("predict", "write masks of images", OPTIONS, run="the folder of a run, or of a bundle trained in it")
    sub.add_argument("--images", required=True, help="a folder, searched through, or one image")
    sub.add_argument("--output_dir", help="folder of the masks; without it predictions/ of the run")
    sub = command("bands", "draw the boxes of images, and the bands that constraints make of them")
    sub.add_argument("--images", required=True, help="a folder, or one image")
    sub.add_argument("--boxes", required=True, help="a CSV, a JSON, or a folder of Slicer markups")
    sub.add_argument("--classes", type=int, default=1, help="how many there are; 1")
    sub.add_argument("--coordinates", choices=["voxel", "LPS", "RAS"], default="voxel", help="of CSV and JSON; voxel")
    sub.add_argument("--width", type=int, default=5, help="lines of a band; 5")
    sub.add_argument("--count", type=int, default=6, help="images at most; 6")
    sub.add_argument("--output", default="bands.png", help="the picture; bands.png")
    return parser


def bands(given: argparse.Namespace) -> int:
    """Draw boxes and bands of images."""
    from monai_constraints.data import find_images
    from monai_constraints.pictures import bands_of_files

    try:
        found = [case["image"] for case in find_images(given.images)][: given.count]
        bands_of_files(
            found, given.boxes, given.output, width=given.width, classes=given.classes, coordinates=given.coordinates
        )
    except (ValueError, KeyError, OSError) as reason:
        raise Refused(str(reason.args[0]) if isinstance(reason, KeyError) else str(reason)) from reason
    sys.stdout.write(f"{given.output}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: instead of the process's.

    Returns:
        The exit code.
    """
    parser = make_parser()
    given, rest = parser.parse_known_args(arguments)
    try:
        if given.command in ("bundles", "copy", "bands"):
            if rest:
                raise Refused(f"{rest[0]} is one argument too many")
            if given.command == "bands":
                return bands(given)
            return listed(given.bundle) if given.command == "bundles" else copy(given.bundle, given.folder)
        options = typed(rest)
        if getattr(given, "output_dir", None):
            options["output_dir"] = os.path.abspath(given.output_dir)
        if given.command == "semi":
            return semi(given, options)
        if given.command == "train":
            files, options = train(given.bundle, [row for row in given.rows.split(",") if row], options)
        else:  # the run is where it is found: its folder may have been moved or copied since
            evaluation = given.command == "evaluate"
            files = [finished(given.run, "evaluate.yaml" if evaluation else "inference.yaml")]
            options = {"output_dir" if evaluation else "run_dir": str(files[0].parent.absolute()), **options}
            if not evaluation:
                options["dataset_dir"] = os.path.abspath(given.images)
    except Refused as reason:
        parser.error(str(reason))

    from monai_constraints.engines import start

    return start(files, options, debug=given.debug)
