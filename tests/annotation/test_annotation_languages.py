"""The interface in other languages: catalogues that are whole, the language of a page, keys that do
not depend on the keyboard's script, formulas."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, pair_row

from burnish.annotation import languages
from burnish.annotation.service import accounts, people
from burnish.annotation.service.rendering import markdown
from burnish.annotation.store import Store
from burnish.errors import UserError
from scripts import load_script

CODES = ("ar", "de", "es", "fr", "hi", "zh")
PASSWORD = "correct horse battery"
_HOLES = re.compile(r"\{\w+\}|%\(\w+\)s|%%")


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    return load_script(Path(__file__).parents[2] / "tools" / "messages.py")


def test_there_are_seven_languages_and_arabic_is_written_from_the_right():
    there = languages.languages()
    assert (*there,) == ("en", *CODES)
    assert [code for code, one in there.items() if one.direction == "rtl"] == ["ar"]
    assert there["de"].name == "Deutsch"
    assert there["zh"].name == "中文"


@pytest.mark.parametrize("code", CODES)
def test_every_text_has_its_translation_with_the_same_values_in_it(code: str, messages: ModuleType):
    wanted = messages.texts()
    there = languages.languages()[code].texts
    assert messages.missing(code, wanted) == []
    assert [text for text in there if text not in wanted] == []
    for text, more in wanted.items():
        for form in there[text]:
            assert '"' not in form
            assert "<" not in form
            if not more:
                assert sorted(_HOLES.findall(form)) == sorted(_HOLES.findall(text)), text


def test_counts_take_the_form_of_the_language():
    one, more = "You have answered %(num)s task.", "You have answered %(num)s tasks."
    there = languages.languages()
    forms = {n: there["ar"].ngettext(one, more, n) for n in (0, 1, 2, 3, 11, 100)}
    assert len(set(forms.values())) >= 5  # Arabic has six
    assert there["fr"].ngettext(one, more, 0) == there["fr"].ngettext(one, more, 1)
    assert there["de"].ngettext(one, more, 0) != there["de"].ngettext(one, more, 1)
    assert there["en"].ngettext(one, more, 1) == one
    digits = str(there["ar"].for_scripts([])["plural"])
    assert [int(digits[n]) for n in (0, 1, 2, 3, 11, 100, 103)] == [0, 1, 2, 3, 4, 5, 3]


def test_the_browser_s_wish_is_heard_and_a_choice_goes_before_it():
    def code(choice: str | None, accepted: str) -> str:
        return languages.language_of(choice, accepted).code

    assert code(None, "pt-BR,fr;q=0.5,de;q=0.9") == "de"
    assert code(None, "zh-TW") == "zh"
    assert code(None, "pt, *;q=0.1") == "en"
    assert code(None, "de;q=0, ar;q=x,;;, es") == "es"
    assert code(None, "fr; q=0.5, de ;q=0.9, es; q = 0") == "de"
    assert code("hi", "de") == "hi"
    assert code("xx", "de") == "de"


def test_a_catalogue_is_read_as_gettext_reads_it(tmp_path: Path):
    path = tmp_path / "xx.po"
    path.write_text(
        '# a comment\nmsgid ""\nmsgstr ""\n"Language-Name: Xish\\n"\n"Plural-Forms: nplurals=2;'
        ' plural=(n > 1);\\n"\n\nmsgid "a"\nmsgstr ""\n"long "\n"one"\n\n#, fuzzy\nmsgid'
        ' "b"\nmsgstr "guess"\n\nmsgid "c"\nmsgstr ""\n\nmsgid "d"\nmsgid_plural "ds"\nmsgstr[0]'
        ' "x"\nmsgstr[1] "xs"\n'
    )
    made = languages.catalogue_of(path)
    assert (made.name, made.direction) == ("Xish", "ltr")
    assert [made.gettext(text) for text in "abc"] == ["long one", "b", "c"]
    assert [made.ngettext("d", "ds", n) for n in (0, 1, 2)] == ["x", "x", "xs"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(str(tmp_path / "a.sqlite"))
    yield made
    made.stop()


def _token(page: httpx.Response, pattern: str = r'name="csrf" value="([^"]+)"') -> str:
    found = re.search(pattern, page.text)
    assert found is not None
    return found[1]


def test_a_person_s_choice_is_kept_with_the_account_and_refusals_speak_it(served: Served):
    Bench(served.database, annotators=0)
    accounts.set_password(served.database, "olga", PASSWORD)
    wish = {"Accept-Language": "es"}
    client = httpx.Client(base_url=served.url, headers=wish, follow_redirects=True, timeout=60)
    page = client.get("/login")
    assert '<html lang="es" dir="ltr">' in page.text
    assert "Iniciar sesión" in page.text
    page = client.post("/login", data={"name": "olga", "password": "x" * 12, "csrf": _token(page)})
    assert "El nombre y la contraseña no coinciden." in page.text
    page = client.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": _token(page)})
    chosen = {"language": "ar", "to": "/account?x=1", "csrf": _token(page)}
    page = client.post("/language", data=chosen)
    assert page.url.path == "/account"
    assert '<html lang="ar" dir="rtl">' in page.text
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example", "x"):
        page = client.post("/language", data=chosen | {"to": elsewhere})
        assert str(page.url).startswith(served.url)
        assert page.status_code == 200
    assert client.post("/language", data=chosen | {"csrf": "no"}).status_code == 403
    assert client.post("/language", data=chosen | {"language": "xx"}).status_code == 422

    other = httpx.Client(base_url=served.url, headers=wish, follow_redirects=True, timeout=60)
    page = other.get("/login")
    page = other.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": _token(page)})
    assert 'lang="ar"' in page.text
    answer = other.post(
        "/api/v1/leases/none/answer",
        json={"strength": 1},
        headers={"X-CSRF-Token": _token(page, r'meta name="csrf" content="([^"]+)"')},
    )
    assert answer.json()["detail"] == "لا توجد مهمة كهذه لديك."
    assert httpx.get(f"{served.url}/api/v1/me").json()["detail"] == "log in, or send a token"


def test_a_refusal_that_names_a_field_is_translated_on_the_form(served: Served):
    bench = Bench(served.database, annotators=0)
    secret = people.invite(served.database, bench.owner, bench.project)
    problem = "a name has 1 to 60 characters and no control characters."
    for code, expected in (
        ("de", languages.languages()["de"].texts[problem][0]),
        ("en", f'field "name": {problem}'),
    ):
        wish = {"Accept-Language": code}
        client = httpx.Client(base_url=served.url, headers=wish, timeout=60)
        page = client.get(f"/join/{secret}")
        form = {"name": "", "password": PASSWORD, "csrf": _token(page)}
        page = client.post(f"/join/{secret}", data=form)
        assert page.status_code == 422
        (shown,) = re.findall(r'<p class="error" role="alert">(.*?)</p>', page.text)
        assert html.unescape(shown) == expected


def test_after_the_answer_to_a_form_the_language_changes_on_the_page_it_is_of(served: Served):
    Bench(served.database, annotators=0)
    accounts.set_password(served.database, "olga", PASSWORD)
    client = httpx.Client(base_url=served.url, follow_redirects=True, timeout=60)
    page = client.get("/login")
    page = client.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": _token(page)})
    csrf = _token(page)
    search = {name: "*ü~ " * 70 for name in ("text", "annotator", "model", "column")}
    cases = [
        (client.post("/projects/1/items/1/correct", data={"csrf": csrf}), "/projects/1/items/1"),
        (client.post("/projects/1/items/1/retire", data={"csrf": "no"}), "/projects/1/items/1"),
        (client.post("/projects/1/invite", data={"csrf": csrf}), "/projects/1"),
        (client.post("/account/tokens", data={"csrf": csrf}), "/account"),
        (client.post("/language", data={"language": "xx"}), "/"),
        (client.get("/projects/1/items", params=search), "/projects/1/items?"),
    ]
    for code, (answer, above) in zip(CODES, cases, strict=True):
        here = html.unescape(_token(answer, r'name="to" value="([^"]+)"'))
        assert here == above or (above.endswith("?") and here.startswith(above)), here
        page = client.post("/language", data={"language": code, "to": here, "csrf": csrf})
        assert page.status_code == 200, (here, page.text)
        assert page.url.raw_path.decode() == (here if here != "/" else "/projects")
        assert f'<html lang="{code}"' in page.text


def test_every_page_in_every_language(served: Served):
    rows = [
        pair_row(1), pair_row(2, gold={"strength": 1}, part="training"),
        {"id": "b", "prompt": "?", "kind": "best_worst", "candidates": [*"abc"]},
        {"id": "r", "prompt": "?", "kind": "rubric", "candidates": ["a"],
            "rubric": [{"criterion": "x"}]},
    ]  # fmt: skip
    bench = Bench(served.database, annotators=1, rows=rows)
    accounts.set_password(served.database, "olga", PASSWORD)
    people.invite(served.database, bench.owner, bench.project)
    client = httpx.Client(base_url=served.url, follow_redirects=True, timeout=60)
    page = client.get("/login")
    page = client.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": _token(page)})
    token = _token(page)
    tabs = (
        "",
        "/review",
        "/items",
        "/items/1",
        "/members",
        "/notes",
        "/export",
        "/settings",
        "/label",
    )
    for code in ("en", *CODES):
        client.post("/language", data={"language": code, "csrf": token})
        for path in (
            "/projects",
            "/projects/new",
            "/account",
            *(f"/projects/1{tab}" for tab in tabs),
        ):
            page = client.get(path)
            assert page.status_code == 200, (code, path, page.text[-300:])
            assert f'<html lang="{code}"' in page.text
        sent = {"csrf": token, "role": "reviewer", "uses": "2"}
        assert client.post("/projects/1/invite", data=sent).status_code == 200
        values = re.findall(r'<option value="(\w*)"', client.get("/projects/1/members").text)
        assert {"annotator", "reviewer", "owner", "paused"} <= {*values}
    assert served.failures == []


def test_preferences_by_program(served: Served):
    bench = Bench(served.database, annotators=1)
    caller = bench.people[0]
    assert accounts.prefer(served.database, caller, letter_keys=False) == {"letter_keys": False}
    kept = accounts.prefer(served.database, caller, language="hi", letter_keys=None)
    assert kept == {"letter_keys": False, "language": "hi"}
    with pytest.raises(UserError, match="languages are en, ar"):
        accounts.prefer(served.database, caller, language="tlh")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (r"$\argmax_x \{2,3\}$ for $5 or $6", r'<p><span class="math">\argmax_x \{2,3\}</span> for $5 or $6</p>'),  # noqa: E501
        ("$$\na &= b \\\\\n- c\n$$\nafter", '<span class="math display">a &amp;= b \\\\\n- c</span><p>after</p>'),  # noqa: E501
        ("so\n\\[\nx\n= y\\]", '<p>so</p>\n<span class="math display">x\n= y</span>'),
        ("$$ x\n\nno formula $$", "<p>$$ x</p>\n<p>no formula $$</p>"),
        ("\\(<b>\\)", '<p><span class="math">&lt;b&gt;</span></p>'),
        ("`$x$`", "<p><code>$x$</code></p>"),
    ],
)  # fmt: skip
def test_formulas_stand_as_they_were_written_in_elements_of_their_own(text: str, html: str):
    assert markdown(text).strip() == html


FORMULA = (
    "Take $\\argmax_x f$, $\\{2,3\\}$,\n\n$$\n\\begin{aligned}\na &="
    " \\begin{pmatrix}1\\\\2\\end{pmatrix}\\\\\n- b &= 3\n\\end{aligned}\n$$\n\nand"
    " $\\href{javascript:window.hit=1}{x}$ and $\\unknown{$."
)


@pytest.fixture
def arabic(chromium: Any, tmp_path: Path) -> Iterator[tuple[Any, Served]]:
    served = Served(str(tmp_path / "b.sqlite"))
    rows = [pair_row(n, candidates=[FORMULA, f"باريس {n}"]) for n in range(3)]
    bench = Bench(served.database, annotators=0, rows=rows, overlap=1)
    secret = people.invite(served.database, bench.owner, bench.project)
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, locale="ar")
    page = context.new_page()
    page.set_default_timeout(15_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda m: failures.append(m.text) if m.type == "error" else None)
    page.goto(f"{served.url}/join/{secret}")
    page.locator("input[name=name]").fill("آن")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines[open]")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines", state="hidden")
    yield page, served
    assert failures == []
    context.close()
    served.stop()


def _type(page: Any, key: str, code: str) -> None:
    """A key of a keyboard in another script."""
    page.evaluate(
        "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, code,"
        " bubbles: true }))",
        [key, code],
    )


def test_formulas_and_arabic_keys_in_the_browser(arabic: tuple[Any, Served]):
    page, served = arabic
    page.wait_for_selector(".katex")
    assert page.evaluate("document.dir") == "rtl"
    boxes = [page.locator(".answer").nth(n).bounding_box()["x"] for n in (0, 1)]
    assert boxes[0] > boxes[1]  # A stands on the right
    assert page.locator(".answer .katex-display .mtable").count() >= 1
    assert page.locator(".answer .katex-error").count() == 0
    assert page.locator(".math.unread").inner_text().startswith("\\unknown")
    assert page.locator(".math [href]").count() == 0
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.fonts.check('16px KaTeX_Main')")
    lead = page.locator(".answer").first.inner_text()
    _type(page, "ل", "KeyG")
    page.wait_for_selector("dialog#guidelines[open]")
    page.keyboard.press("Escape")
    _type(page, "١", "Digit1")
    _type(page, "&", "Digit4")  # as on a French keyboard
    _type(page, "١", "Digit1")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=تم التسجيل", state="attached")
    said = Store(served.place).labelled("p")[0].answer
    first = said.presented[0]
    assert said.ranks is not None
    assert said.ranks[first] == 1
    assert ("باريس" in lead) == (first == 1)

    page.goto(f"{served.url}/account")
    page.locator("input[name=letter_keys]").uncheck()
    page.locator("form[action$='/account/keys'] button").click()
    page.goto(f"{served.url}/projects/1/label")
    page.wait_for_selector(".bar")
    for key in ("g", "1", "s", "?"):
        page.keyboard.press(key)
    assert page.locator("dialog[open]").count() == 0
    assert page.locator(".scale :checked").count() == 0
    assert page.locator(".scale kbd").count() == 0
    page.locator(".scale input").first.check()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=تم التسجيل", state="attached")
    assert len(Store(served.place).labelled("p")) == 2
