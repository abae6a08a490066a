"""The whole way with people in it: SFT, a server, labels given in a browser, export, reward model,
PPO, report.

    python examples/people.py --out runs/people

Every step is a command that you can type yourself; it is printed as it runs. Only the people are
played: a headless Chromium (Playwright drives it) joins by the invitation link and labels each pair
by keyboard, after the taste that the quickstart's panel shares. Needs `pip install burnish
playwright` and Chromium. Further `KEY=VALUE` go to the recipe.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.config.making import Taste
from burnish.rewards.taste import taste_score

PROJECT, PASSWORD = "helpfulness", "correct horse battery"
RECIPE = Path(__file__).parents[1] / "recipes" / "people.yaml"
GUIDELINES = (
    "# Which answer is better?\n\nThe one that answers at once, stays short and on the subject, and"
    " is courteous once."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--items", type=int, default=200, help="prompts that get two answers")
    parser.add_argument("--annotators", type=int, default=2, help="each labels every pair")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    run(
        options.out,
        options.overrides,
        items=options.items,
        annotators=options.annotators,
        longest=options.max_new_tokens,
    )


def run(out: Path, overrides: list[str], *, items: int, annotators: int, longest: int) -> None:
    """Everything, into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    store = out / "annotations.sqlite"
    recipe = [str(RECIPE), *overrides, f"data.store={store}"]
    prompts = next(
        (o.partition("=")[2] for o in overrides if o.startswith("data.prompts=")),
        "builtin:quickstart/prompts",
    )
    burnish("sft", "--config", *recipe, "--out", out)
    burnish(
        "annotate",
        "users",
        "add",
        "olga",
        "--owner",
        "--database",
        store,
        "--password-file",
        "-",
        said=PASSWORD,
    )
    with served(store) as url, browser() as new_page:
        owner = new_page()
        log_in(owner, url)
        make_project(owner, url, annotators=annotators)
        burnish(
            "annotate",
            "sample",
            prompts,
            PROJECT,
            "--database",
            store,
            "--model",
            out / "sft" / "model",
            "--samples",
            2,
            "--limit",
            items,
            "--max-new-tokens",
            longest,
        )
        link = invite(owner, uses=annotators)
        for number in range(annotators):
            print(
                f"annotator {number + 1} labelled"
                f" {label_everything(new_page(), link, f'annotator-{number + 1}')} pairs"
            )
    burnish("annotate", "stats", PROJECT, "--database", store)
    burnish("annotate", "export", PROJECT, out / "labels.jsonl", "--database", store)
    burnish("run", *recipe, "--out", out)


def burnish(*arguments: object, said: str | None = None) -> None:
    """A command, shown and run; `said` goes to its standard input."""
    words = [str(a) for a in arguments]
    print(f"$ burnish {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "burnish", *words], check=True, input=said, text=True)


@contextmanager
def served(store: Path) -> Iterator[str]:
    """`burnish annotate serve` on a free port; its address."""
    command = [
        sys.executable,
        "-m",
        "burnish",
        "annotate",
        "serve",
        "--database",
        str(store),
        "--port",
        "0",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"serving on (http://\S+)", line):
                print(f"$ burnish annotate serve --database {store}\n{line.strip()}", flush=True)
                yield found[1]
                return
        raise SystemExit("the server did not start")
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def browser() -> Iterator[Any]:
    """Makes pages, each of a browser of its own as far as cookies go."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield lambda: chromium.new_context(viewport={"width": 1200, "height": 900}).new_page()
        chromium.close()


def log_in(page: Any, url: str) -> None:
    """As the owner."""
    page.goto(url)
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="New project").wait_for()


def make_project(page: Any, url: str, *, annotators: int) -> None:
    """Pairs, each labelled by every annotator."""
    page.goto(f"{url}/projects/new")
    page.get_by_label("Name").fill(PROJECT)
    page.get_by_label("Task").select_option("pairwise")
    page.get_by_label("Annotators per item").fill(str(annotators))
    page.get_by_label("Guidelines").fill(GUIDELINES)
    page.get_by_role("button", name="Create").click()


def invite(page: Any, *, uses: int) -> str:
    """The link by which annotators join."""
    page.get_by_role("link", name="People").click()
    page.get_by_label("For how many").fill(str(uses))
    page.get_by_role("button", name="Make a link").click()
    return page.inner_text(".secret")


def label_everything(page: Any, link: str, name: str) -> int:
    """Join, read the guidelines, and compare pairs by keyboard until there are none; how many there
    were."""
    page.goto(link)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines[open]")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines", state="hidden")
    weights, labelled = Taste().model_dump(), 0
    while True:
        page.wait_for_selector(".bar, .narrow")
        if page.inner_text("h1") != "Compare two answers":
            return labelled
        prompt = page.locator(".prompt .text").last.inner_text()
        texts = page.locator(".answer .text").all_inner_texts()
        left, right = ((taste_score(weights, prompt, text), text) for text in texts)
        near = abs(left[0] - right[0]) < 0.1
        # a tie is decided by the letters
        key = ("2" if near else "1") if left > right else ("3" if near else "4")
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        labelled += 1
        for _ in range(
            600
        ):  # the page's policy forbids the evaluation that Playwright's own waiting needs
            if page.evaluate("document.querySelector('#live').textContent === 'Recorded'"):
                break
            page.wait_for_timeout(20)
        else:
            raise SystemExit("an answer was not recorded")
        page.evaluate("document.querySelector('#live').textContent = ''")


if __name__ == "__main__":
    main()
