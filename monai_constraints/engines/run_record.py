"""What a run was, beside its weights: its configuration, and evaluation and inference that need nothing else."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from torch import nn

from monai_constraints.engines.configuration import CONFIG, plain_values, recorded, running_parser
from monai_constraints.engines.run_folder import TRACEBACK, begin_anew
from monai_constraints.files import replacing
from monai_constraints.networks import load_trained, placed

__all__ = ["TrainedRun", "record_run"]

MODEL = "model.pt"


def record_run(folder: str | os.PathLike[str]) -> None:
    """Write the configuration that is being run to `folder`, `config.yaml`, with `evaluate.yaml` and `inference.yaml`.

    Call it from a configuration, in `initialize`: it is that one, overlays and options included, however it was
    started. Whether there was a GPU, and the settings that depend on it, are written as the values that they had; paths
    are absolute. The other two are the bundle's, for this run, complete: `python -m monai.bundle
    run --config_file FOLDER/evaluate.yaml`.

    Raises:
        RuntimeError: outside of a configuration.
    """
    if idist.get_rank() != 0:
        return
    config = recorded(running_parser(), folder)
    folder, bundle = Path(folder).absolute(), Path(config["bundle_root"]) / "configs"
    begin_anew(folder)
    (folder / TRACEBACK).unlink(missing_ok=True)  # of a run that failed here before
    files = {CONFIG: config}
    if (bundle / "evaluate.yaml").is_file():
        evaluation = ConfigParser(copy.deepcopy(config))
        for key, value in ConfigParser.load_config_file(str(bundle / "evaluate.yaml")).items():
            merge_kv(evaluation, key, value)  # type: ignore[arg-type]
        files["evaluate.yaml"] = evaluation.get()
    if (bundle / "inference.yaml").is_file():
        inference = ConfigParser.load_config_file(str(bundle / "inference.yaml"))
        files["inference.yaml"] = {**inference, "bundle_root": config["bundle_root"], "run_dir": str(folder)}
    for name in ("metadata.json", "logging.conf"):  # MONAI looks for both beside a configuration
        if (bundle / name).is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(bundle / name, temporary)
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(yaml.safe_dump(plain_values(content), sort_keys=False, width=120), encoding="utf-8")


class TrainedRun:
    """The parts of a finished run by name, as its `config.yaml` describes them, and its network with its weights.

    Args:
        folder: of the run, with `config.yaml` and `model.pt`.
        otherwise: the configuration of a bundle that has not been trained yet, for its description alone.
        changes: settings by id that are other than in the training, such as `device`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, otherwise: str = "", changes: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / CONFIG
        self.found = path.is_file()
        if not self.found and not (otherwise and os.path.isfile(otherwise)):
            raise FileNotFoundError(f"TrainedRun: no {path}; train first, or pass the folder of a run as --run_dir")
        self.parser = ConfigParser(ConfigParser.load_config_file(str(path) if self.found else otherwise))
        for key, value in (changes or {}).items():
            self.parser.set(value, key, recursive=True)

    def __getitem__(self, name: str) -> Any:
        """The part or setting of this id."""
        return self.parser.get_parsed_content(name)

    def network(self, device: torch.device | str, path: Any = "") -> nn.Module:
        """The network with the weights of the run, or of another file of the same network; a list is an ensemble."""
        return placed(load_trained(self["network_def"], path or self.folder / MODEL), device)
