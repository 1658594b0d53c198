"""The packages of the wheel, the top-level folder bundles/ as one of them; all else is in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["monai_constraints*"]), "monai_constraints.bundles"],
    package_dir={"monai_constraints.bundles": "bundles"},
)
