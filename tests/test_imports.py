"""The walls of the package: who imports whom, which names a user meets, how long a file is."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import monai_constraints

ROOT = Path(monai_constraints.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# constraints <- losses, metrics, transforms, data, networks <- handlers, engines, pictures <- planning <- reproduce
LAYERS = {
    **dict.fromkeys(["arrays", "files", "keys", "columns", "constraints"], 0),
    **dict.fromkeys(["losses", "metrics", "transforms", "data", "networks"], 1),
    "pictures": 2,
    **dict.fromkeys(["handlers", "engines"], 3),
    "regression": 4,
}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, type checking and function bodies included."""
    package = ["monai_constraints", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` may import the module x.
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names if node.module is None)}
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_relative_imports_are_resolved() -> None:
    assert "monai_constraints.constraints" in imports(ROOT / "losses" / "constraint.py")
    assert "monai_constraints.losses.activation" in imports(ROOT / "losses" / "base.py")


@pytest.mark.parametrize("path", sorted((ROOT / "constraints").glob("*.py")), ids=name)
def test_the_mathematics_imports_torch_only(path: Path) -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    foreign = {m for m in imports(path) if m.split(".")[0] not in allowed}
    assert {m for m in foreign if not m.startswith("monai_constraints.constraints")} == set()


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != ROOT], ids=name)
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert own in LAYERS, f"give {own} its layer in this test and in DESIGN"
    others = {m.split(".")[1] for m in imports(path) if m.startswith("monai_constraints.")} - {own}
    assert {other for other in others if LAYERS.get(other, 99) >= LAYERS[own]} == set()
    assert "monai_constraints" not in imports(path)  # the root imports everything


def test_no_circle() -> None:
    dotted = {".".join(["monai_constraints", *p.relative_to(ROOT).with_suffix("").parts]): p for p in FILES}
    modules = {module.removesuffix(".__init__"): path for module, path in dotted.items()}
    graph = {module: sorted(imports(path) & modules.keys() - {module}) for module, path in modules.items()}
    assert len(graph) > 80 and "monai_constraints.constraints" in graph["monai_constraints.losses.constraint"]
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert len(order) == len(graph)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_first_line_says_what_a_file_is_for(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc is not None and doc.splitlines()[0].endswith((".", "`."))


@pytest.mark.parametrize("package", sorted({p.parent for p in FILES}), ids=name)
def test_every_public_object_has_a_docstring_of_its_own(package: Path) -> None:
    module = importlib.import_module(".".join(["monai_constraints", *package.relative_to(ROOT).parts]))
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__, public


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 260


def test_a_user_meets_few_names_and_all_exist() -> None:
    names = monai_constraints.__all__
    assert len(names) <= 15 and len(set(names)) == len(names)
    for public in names:
        assert getattr(monai_constraints, public).__doc__


@pytest.mark.parametrize("package", sorted({p.parent for p in FILES} - {ROOT}), ids=name)
def test_no_class_of_ours_has_a_name_of_monais(package: Path) -> None:
    # MONAI's locator finds classes by bare name in every module whose name starts with "monai".
    module = importlib.import_module(".".join(["monai_constraints", *package.relative_to(ROOT).parts]))
    theirs = {
        public
        for other in ("losses", "metrics", "transforms", "networks.nets", "handlers", "data", "engines", "inferers")
        for public in dir(importlib.import_module(f"monai.{other}"))
    }
    assert "DiceLoss" in theirs and "UNet" in theirs
    assert set(getattr(module, "__all__", [])) & theirs == set()
