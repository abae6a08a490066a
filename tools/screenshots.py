"""The pictures of the documentation, taken by a headless Chromium. Everything is served on this
machine.

    python tools/screenshots.py report runs/quickstart     # docs/report.png
    python tools/screenshots.py annotation                 # docs/images/annotate-*.png, of a demo
        made for it
    python tools/screenshots.py site                       # build/screenshots: pages on a desktop
        and a phone, to be looked at

`--to FOLDER` puts them elsewhere. Chromium is the one on the path.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
)  # fmt: skip
SITE = ("index", "quickstart", "options", "algorithms", "coming-from", "tutorials/from-trl")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PASSWORD = "a password of the demo"


def main() -> None:
    """Take the pictures that are asked for, and say where they are."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices=("report", "annotation", "site"))
    options.add_argument("run", nargs="?", type=Path, help="of a report: the run's folder")
    options.add_argument("--to", type=Path, help="the folder of the pictures")
    given = options.parse_args()
    if (given.what == "report") != (given.run is not None):
        options.error("a report is of a run: screenshots.py report runs/quickstart")
    with _browser() as browser:
        if given.what == "report":
            report(browser, given.run, given.to or ROOT / "docs")
        elif given.what == "annotation":
            annotation(browser, given.to or ROOT / "docs" / "images")
        else:
            site(browser, given.to or ROOT / "build" / "screenshots")


def report(browser: Any, run: Path, folder: Path) -> None:
    """The beginning of a run's report."""
    page = browser.new_page(viewport={"width": 1200, "height": 1250})
    page.goto((run.absolute() / "report.html").as_uri())
    _take(page, folder / "report.png")


def annotation(browser: Any, folder: Path) -> None:
    """A project's overview, and an annotator's first two tasks of different kinds."""
    with _demo() as address:
        page = browser.new_page(viewport={"width": 1180, "height": 1290})
        page.goto(f"{address}/login")
        page.get_by_label("Name").fill("owner")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/projects**")
        page.goto(f"{address}/projects/1")
        _take(page, folder / "annotate-overview.png")
        page.set_viewport_size({"width": 1000, "height": 740})
        page.goto(f"{address}/projects/1/label")
        page.wait_for_selector(".answer, dialog[open]")
        if page.locator("dialog#guidelines[open]").count():
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog#guidelines", state="hidden")
        _take(page, folder / "annotate-pairwise.png")


def site(browser: Any, folder: Path) -> None:
    """Pages of the site as they look on a desktop and on a phone; none may be wider than the
    phone."""
    with _served(ROOT / "build" / "site") as address:
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page = browser.new_page(viewport=size)
            for path in SITE:
                page.goto(f"{address}/{path}.html", wait_until="networkidle")
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                if wide > 0:
                    sys.exit(f"{path} is {wide} pixels wider than a {name}")
                _take(page, folder / f"{path.replace('/', '-')}-{name}.png")


def _take(page: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    print(path)


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("Chromium is not on the path: apt install chromium")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    if not (folder / "index.html").is_file():
        sys.exit("there is no site yet: make docs")
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _demo() -> Iterator[str]:
    """The annotation demo, in a folder of its own, until the pictures are taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "burnish", "annotate", "demo", "--port", str(port)]
        command += ["--password", PASSWORD, "--database", str(Path(folder, "demo.sqlite"))]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(f"{address}/login", server)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"the demo ended with exit code {server.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    sys.exit("the demo did not begin to serve within two minutes")


if __name__ == "__main__":
    main()
