"""Databases for the service's tests: SQLite always, PostgreSQL where Debian's server is
installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import free_port, new_postgres_database

from burnish.annotation.service.database import Database


def _postgres_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, without a database's name; it ends with the
    tests."""
    folder = _postgres_folder()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    place = Path(tempfile.mkdtemp(prefix="burnish-pg-"))
    as_root = os.geteuid() == 0
    if as_root:
        try:
            shutil.chown(place, "postgres", "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    run = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if as_root else []
    port = free_port()
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c max_connections=60"
    subprocess.run(
        [*run, folder / "initdb", "-D", place / "data", "-A", "trust", "-U", "burnish", "-E",
            "UTF8", "--no-sync"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    control = [*run, str(folder / "pg_ctl"), "-D", str(place / "data")]
    subprocess.run(
        [*control, "-w", "-o", options, "-l", str(place / "log"), "start"],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    yield f"postgresql+psycopg://burnish@127.0.0.1:{port}"
    subprocess.run(
        [*control, "-m", "immediate", "stop"], check=True, cwd="/", stdout=subprocess.DEVNULL
    )
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database can be opened, on either engine."""
    if request.param == "sqlite":
        return str(tmp_path / "a.sqlite")
    return new_postgres_database(request.getfixturevalue("postgres"))


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    database = Database(place)
    yield database
    database.close()


@pytest.fixture(
    scope="module"
)  # Playwright keeps an event loop running, which other tests must not meet
def chromium() -> Iterator[Any]:
    """Debian's Chromium, headless; the tests that need it are left out where it is not
    installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()
