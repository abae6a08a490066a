"""The package's folders: those of src, and the recipes, which stand beside it in a checkout and in the package once installed."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages("src"), "burnish.recipes"],
    package_dir={"": "src", "burnish.recipes": "recipes"},
)
