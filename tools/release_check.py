"""What a release would be: built, looked at, installed into a clean environment and run far from
the repository.

    make release-check

The files that git knows are built as they are committed or staged. `--packages-of PYTHON` takes
what Burnish depends on from another environment instead of the registry, which is quick and does
not check the dependencies' own ranges.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "release"
PACKAGES = {"src/burnish/": "burnish/", "recipes/": "burnish/recipes/"}
"""Folders of the checkout, and where their files are in the wheel."""
NOT_IN_THEM = ("/.venv/", "/build/", ".sqlite", "/__pycache__/", "metrics.jsonl", ".safetensors")
SMALLER = ("sample.count=8", "ppo.steps=1", "evaluate.count=4")


def main() -> None:
    """Build, look, install, run; the first thing that is wrong ends it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--packages-of", metavar="PYTHON", type=Path)
    packages = options.parse_args().packages_of
    packages = packages and packages.absolute()
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    listed = [name for name in _do(["git", "ls-files", "-z"], cwd=ROOT, shown=False).split("\0")
              if name and (ROOT / name).is_file()]  # fmt: skip
    wheel, sdist = build(listed)
    look_into(wheel, sdist, in_the_wheel(listed))
    python = install(wheel, packages)
    run_elsewhere(python)
    print(f"{wheel.name} and {sdist.name} are fit to be released: {wheel.parent}")


def in_the_wheel(listed: list[str]) -> list[str]:
    """Where every file of the package and every recipe must be, of the files that git knows."""
    return [
        inside + name.removeprefix(outside)
        for outside, inside in PACKAGES.items()
        for name in listed
        if name.startswith(outside)
    ]


def build(listed: list[str]) -> tuple[Path, Path]:
    """The wheel and the sdist, from the files that git knows; twine's check of both."""
    source, tools = PLACE / "source", PLACE / "tools"
    for name in listed:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    venv.create(tools, with_pip=True)
    python = tools / "bin" / "python"
    _do(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build", "twine"]
    )
    _do([python, "-m", "build", "--outdir", PLACE / "dist", source], shown=False)
    (wheel,), (sdist,) = (PLACE / "dist").glob("*.whl"), (PLACE / "dist").glob("*.tar.gz")
    _do([python, "-m", "twine", "check", "--strict", wheel, sdist])
    return wheel, sdist


def look_into(wheel: Path, sdist: Path, expected: list[str]) -> None:
    """Nothing is missing from the wheel, and nothing of a run or an environment is in either."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in expected if name not in names]
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing[:5])}")
    with tarfile.open(sdist) as archive:
        names += archive.getnames()
    strange = [name for name in names if any(part in f"/{name}" for part in NOT_IN_THEM)]
    if strange:
        sys.exit(f"these have no place in a release: {', '.join(strange[:5])}")


def install(wheel: Path, packages: Path | None) -> Path:
    """The Python of a clean environment with the wheel in it."""
    clean = PLACE / "clean"
    venv.create(clean, with_pip=True)
    python = clean / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if packages is None:
        _do([*pip, "--constraint", ROOT / "constraints.txt", wheel])
        return python
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    theirs = _do([packages, "-c", code], shown=False).strip()
    (own,) = (clean / "lib").glob("python*/site-packages")
    # a path of its own: .pth files that stand in that folder are not read, so no checkout comes in
    (own / "packages.pth").write_text(f"{theirs}\n", encoding="utf-8")
    _do([*pip, "--no-deps", wheel])
    return python


def run_elsewhere(python: Path) -> None:
    """The commands and the tiny recipe, in a folder with nothing in it."""
    elsewhere = PLACE / "elsewhere"
    elsewhere.mkdir()
    where = _do(
        [python, "-c", "import burnish; print(burnish.__file__)"], cwd=elsewhere, shown=False
    )
    if not Path(where.strip()).is_relative_to(PLACE / "clean"):
        sys.exit(f"burnish was imported from {where.strip()}, not from the wheel")
    burnish = python.parent / "burnish"
    for arguments in (["--version"], ["recipes", "list"], ["options", "--json-schema"]):
        _do([burnish, *arguments], cwd=elsewhere, shown=False)
    _do([burnish, "run", "tiny", "--out", "runs/tiny", "--quiet", *SMALLER], cwd=elsewhere)
    if not (elsewhere / "runs" / "tiny" / "report.html").is_file():
        sys.exit("the tiny recipe made no report")


def _do(command: list[str | Path], *, cwd: Path | None = None, shown: bool = True) -> str:
    """What a command says; where it fails, all of it, and the end."""
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd or PLACE, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    if shown and done.stdout.strip():
        print(done.stdout.strip())
    return done.stdout


if __name__ == "__main__":
    main()
