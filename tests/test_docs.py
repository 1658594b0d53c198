"""What the documentation shows runs as it stands."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import torch
from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md"]
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


def test_the_overlay_for_own_data_is_under_20_lines() -> None:
    text = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    overlay = next(block for block in _blocks(text, "json") if "size_rule" in block)
    assert len(overlay.splitlines()) < 20


def test_every_file_of_the_concept_table_exists() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:monai_constraints|bundles|docs|benchmarks|tests)/[\w./]+)`", text)
    assert len(files) > 10
    assert not [file for file in files if not (REPOSITORY / file).exists()]


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
