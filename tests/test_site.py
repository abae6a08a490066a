"""The documentation as a site (mkdocs.yml): every page is in the navigation, links and anchors
hold, and nothing is asked of another host."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
_TOOLS = ("mkdocs", "material")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, _TOOLS)),
    reason="mkdocs or mkdocs-material is not installed: make docs brings both",
)


def _build(sources: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=sources, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = _build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_links_that_lead_nowhere_and_pages_outside_of_the_navigation_are_refused(tmp_path: Path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n", encoding="utf-8")
    page = tmp_path / "docs" / "quickstart.md"
    links = "[one](nowhere.md) [two](recipes.md#no-such-heading)"
    page.write_text(page.read_text(encoding="utf-8") + f"\n{links}\n", encoding="utf-8")
    done = _build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for problem in ("lost.md", "'nowhere.md'", "#no-such-heading"):
        assert problem in done.stderr


def test_notebooks_are_pages(site: Path):
    notebooks = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
    assert notebooks
    for notebook in notebooks:
        page = (site / "tutorials" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert "burnish" in page.split("<article")[1]
        assert f'href="{notebook.name}"' in page
        assert (site / "tutorials" / notebook.name).is_file()


class _Assets(HTMLParser):
    """What a page loads by itself: not the links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")
        elif tag != "a":
            self.found += [given.get(name) or "" for name in ("src", "srcset", "poster", "data")]


def test_pages_and_styles_name_no_other_host(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        reader = _Assets()
        text = page.read_text(encoding="utf-8")
        reader.feed(text)
        assert reader.found
        assert not [url for url in reader.found if urlsplit(url).netloc], page.name
        # the theme fetches Mermaid's script from elsewhere where a page has a diagram of it
        assert 'class="mermaid"' not in text
    for style in site.rglob("*.css"):
        urls = re.findall(r"url\(([^)]*)\)|@import ([^;]*)", style.read_text(encoding="utf-8"))
        assert not [url for pair in urls for url in pair if "//" in url.split("svg+xml")[0]]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_browser_asks_nobody_else_and_search_finds(address: str):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=chromium, args=[*quiet, "--disable-background-networking"]
        )
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/index.html", wait_until="networkidle")
        page.locator(".md-search__input").click()
        page.keyboard.type("advantage")
        hit = page.locator(".md-search-result__link").first
        hit.wait_for(state="attached", timeout=20_000)
        assert "html" in (hit.get_attribute("href") or "")
        browser.close()
    assert len(asked) > 5
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not outside
