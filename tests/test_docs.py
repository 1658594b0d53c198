"""What the documentation shows runs as it stands."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY

from monai_constraints.command import make_parser, typed

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"]
PAGES += [page for part in ("docs", "reproduce", "bundles") for page in sorted((REPOSITORY / part).rglob("*.md"))]


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_python_of_a_page_runs(page: object) -> None:
    text = page.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    code = "\n".join(_blocks(text, "python"))
    names: dict[str, object] = {"__name__": "docs"}
    exec(compile(code, str(page), "exec"), names)  # noqa: S102 - our own pages
    assert code == "" or len(names) > 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_of_a_page_exist(page: object) -> None:
    text = page.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]  # type: ignore[attr-defined]
    assert not missing


@pytest.mark.parametrize(("page", "most"), [("new_statistic", 15), ("new_loss", 40)])
def test_a_new_part_is_one_short_class(page: str, most: int) -> None:
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    block = next(block for block in _blocks(text, "python") if "class " in block)
    classes = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    lines = (classes[0].end_lineno or 0) - classes[0].lineno + 1
    assert lines <= most


def test_the_overlay_for_own_data_is_short() -> None:
    text = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    (overlay,) = _blocks(text, "yaml")
    assert len(overlay.splitlines()) < 20 and "size_rule" in yaml.safe_load(overlay)


@pytest.mark.parametrize("page", ["README.md", "docs/own_data.md"])
def test_commands_of_a_page_are_short_and_understood(page: str) -> None:
    text = "\n".join(_blocks((REPOSITORY / page).read_text(encoding="utf-8"), "bash"))
    commands = re.findall(r"^monai-constraints (.*)$", text, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert len(f"monai-constraints {command}") <= 100
        _, rest = make_parser().parse_known_args(shlex.split(command))
        assert all(name == "dataset_dir" for name in typed(rest))


def test_every_bundle_and_row_of_the_choice_exists() -> None:
    text = (REPOSITORY / "docs" / "which_method.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[3] for line in text.splitlines() if line.count(" | ") == 4]
    found = [re.findall(r"`([\w,]+)`", cell) for cell in cells]
    assert len([names for names in found if names]) >= 8
    for names in filter(None, found):
        folders = [REPOSITORY / "bundles" / name for name in names]
        if folders[-1].is_dir():  # bundles alone
            assert all(folder.is_dir() for folder in folders)
        else:
            assert all((folders[0] / "configs" / "rows" / f"{row}.yaml").is_file() for row in names[1].split(","))


def test_every_place_exists_and_every_folder_has_one() -> None:
    text = (REPOSITORY / "docs" / "where_things_are.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`((?:monai_constraints|bundles|reproduce)/[\w./]+)`", text))
    assert not [place for place in places if not (REPOSITORY / place).exists()]
    folders = {path.parent for path in (REPOSITORY / "monai_constraints").rglob("*.py")}
    named = {f"{path.relative_to(REPOSITORY).as_posix()}/" for path in folders}
    assert named - places <= {"monai_constraints/", "monai_constraints/transforms/"}


def test_the_boundary_loss_is_two_lines_that_train() -> None:
    text = (REPOSITORY / "docs" / "boundary_loss.md").read_text(encoding="utf-8")
    (page,) = re.findall(r"<!-- two lines -->(.*?)<!-- /two lines -->", text, flags=re.DOTALL)
    (code,) = _blocks(page, "python")
    new = [line for line in code.splitlines() if re.search(r"# line \d", line)]
    assert ["SignedDistanceMapd(" in new[0], "BoundaryMapLoss(" in new[1], len(new)] == [True, True, 2]
    names: dict[str, Any] = {"__name__": "docs"}
    torch.manual_seed(0)
    exec(compile(code.replace("epochs = 10", "epochs = 30"), "boundary_loss.md", "exec"), names)  # noqa: S102
    with torch.no_grad():
        found = names["network"].eval()(names["items"][0]["image"][None]).argmax(1) == 1
    truth = names["label"] == 1
    assert 2 * (found & truth).sum() > 0.9 * (found.sum() + truth.sum())
