"""Where a run of a bundle is started: the one place through which every command goes."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import merge_kv

from monai_constraints.engines.check_configuration import check_names
from monai_constraints.engines.refusal import show, show_refusals

__all__ = ["start"]

INTERRUPTED = 130
# Of MONAI's `run`, not of a configuration.
OF_MONAI = ("run_id", "init_id", "final_id", "meta_file", "logging_file", "tracking", "workflow_type")


def start(config_files: Sequence[str | os.PathLike[str]], options: Mapping[str, Any], *, debug: bool = False) -> int:
    """Run configurations in this process, as `python -m monai.bundle run` does; an error ends in its reason.

    Before MONAI gets them the files are read, and the names in them and in the options are checked (`check_names`).

    Args:
        config_files: merged in this order; the first is the base, the others overlays.
        options: values by id, over those of the files; the texts true and false stand for True and False.
        debug: errors with their traceback, as Python shows them.

    Returns:
        The exit code: 0 after a good end, 1 after an error, 130 after Ctrl-C.
    """
    try:
        show_refusals(debug=debug)
        options = {key: _typed(value) for key, value in options.items()}
        files = [os.fspath(file) for file in config_files]
        _check(files, {key: value for key, value in options.items() if key not in OF_MONAI})
        # Not MONAI's run, which leaves out what is None and lists what it was given.
        workflow = ConfigWorkflow(files, **options)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        show(error, hint="--debug shows the traceback")
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _check(files: Sequence[str], options: Mapping[str, Any]) -> None:
    parser, base = ConfigParser({}), dict[str, Any]()
    for file in files:
        content = _read(file)
        base = base or copy.deepcopy(content)
        for key, value in content.items():
            _set(parser, key, value, file)
    for key, value in options.items():
        _set(parser, key, value, "the options")
    check_names(parser, base)


def _read(file: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Duplicate key")  # of which MONAI takes the last
            content = ConfigParser.load_config_file(file)
    except UserWarning as error:
        raise ValueError(f"start: {file} has a name twice ({error}); keep one of them") from error
    except FileNotFoundError:
        raise FileNotFoundError(f"start: there is no configuration {file}; correct its name") from None
    except OSError as error:
        raise OSError(f"start: cannot read {file} ({error.strerror}); check its permissions") from error
    except Exception as error:  # of JSON and of YAML
        what = " ".join(str(error).split())
        raise ValueError(f"start: {file} is neither JSON nor YAML ({what}); correct it there") from error
    if not isinstance(content, dict):
        raise ValueError(f"start: {file} has no names at top level, but is a {type(content).__name__}; correct it")
    return content


def _set(parser: ConfigParser, key: str, value: Any, where: str) -> None:
    try:
        merge_kv(parser, key, value)  # type: ignore[arg-type]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        parts = key.removeprefix("+").replace("::", "#").split("#")
        length = next((n for n in range(1, len(parts)) if "#".join(parts[:n]) not in parser), len(parts))
        missing = "#".join(parts[:length])
        raise ValueError(
            f"start: {key} of {where} goes nowhere, the configuration has no {missing}; correct the name"
        ) from error


def _typed(value: Any) -> Any:
    return value.lower() == "true" if isinstance(value, str) and value.lower() in ("true", "false") else value
