"""What pip installs: the wheel, made from the sdist as a user's pip makes it, and the command in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY

BUILD = "import sys, setuptools.build_meta as build; getattr(build, sys.argv[1])(sys.argv[2])"
LEAVE = shutil.ignore_patterns(".*", "output", "build", "dist", "models", "__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, what is in it, and the wheel that was made of that."""
    folder = tmp_path_factory.mktemp("built")
    source = shutil.copytree(REPOSITORY, folder / "source", ignore=LEAVE)
    python = [sys.executable, "-c", BUILD]
    subprocess.run([*python, "build_sdist", str(folder)], cwd=source, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (inside,) = (folder / "sdist").iterdir()
    subprocess.run([*python, "build_wheel", str(folder)], cwd=inside, check=True, capture_output=True)
    return folder


def files(folder: Path) -> set[str]:
    """All files below it, as paths from it, without what a build leaves."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(("build/", "monai_constraints.egg-info/"))}


def test_the_sdist_has_what_its_tests_need(built: Path) -> None:
    (inside,) = (built / "sdist").iterdir()
    assert files(built / "source") - files(inside) == set()
    assert {"tests/conftest.py", "constraints.txt", "CITATION.cff", "bundles/plumbing.yaml"} <= files(inside)


def test_the_wheel_has_the_bundles_and_not_the_laboratory(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"monai_constraints"}
    below = {name.removeprefix("monai_constraints/") for name in names}
    shipped = {name for name in below if name.startswith("bundles/")}
    there = {name for name in files(built / "source") if name.startswith("bundles/") and name.count("/") > 1}
    assert shipped == there and "bundles/acdc_lv/configs/rows/tags.yaml" in shipped


def test_the_installed_command_finds_them(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, *pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    command = [sys.executable, str(tmp_path / "site" / "bin" / "monai-constraints"), "bundles"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    listed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert "acdc_lv" in {line.split()[0] for line in listed.splitlines()}
    code = "import monai_constraints.command as command; print(command.BUNDLES)"
    place = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)
    assert place.strip() == str(tmp_path / "site" / "monai_constraints" / "bundles")
