"""Pages in the language of who reads them: what they chose, else what their browser asks for."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from burnish.annotation.languages import VALUES, Catalogue, language_of, languages
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.rendering import markdown, plain
from burnish.errors import UserError
from burnish.labels.traces import call_text

LANGUAGE_COOKIE = "burnish_language"
_HERE = Path(__file__).parent.parent
_TEXT = re.compile(r"""\b(?:t|tn)\(\s*"((?:[^"\\]|\\.)*)"(?:,\s*"((?:[^"\\]|\\.)*)")?""")


def reader_language(request: Request, caller: Caller | None = None) -> Catalogue:
    """The language of an answer to a request."""
    chosen = caller.preferences.get("language") if caller else None
    return language_of(
        chosen or request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", "")
    )


@lru_cache
def environment(code: str) -> Environment:
    """The templates in a language. `_` and `ngettext` translate what stands in a template, where it
    is HTML; the filter `word` what comes from elsewhere, and it stays text."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"), extensions=["jinja2.ext.i18n"],
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    language = languages()[code]
    made.install_gettext_callables(  # type: ignore[attr-defined]
        language.gettext, language.ngettext, newstyle=True
    )
    made.filters |= {
        "markdown": markdown, "plain": plain, "percent": lambda share: f"{100 * share:.0f} %",
        "call": call_text,
        "word": lambda text: (
            language.refusal(text) if isinstance(text, UserError) else language.gettext(str(text))
        ),
    }  # fmt: skip
    made.globals |= {"language": language, "languages": languages(), "words": script_words(code)}
    return made


@lru_cache
def script_words(code: str) -> str:
    """What the scripts of a page need of a language, as JSON."""
    return json.dumps(
        languages()[code].for_scripts([*(one for one, _ in script_calls()), *VALUES]),
        ensure_ascii=False,
    )


@lru_cache(maxsize=1)
def script_calls() -> tuple[tuple[str, str], ...]:
    """The texts in the scripts: (one, more) of `tn`, ("text", "") of `t`."""
    scripts = "\n".join(path.read_text("utf-8") for path in sorted(_HERE.glob("static/*.js")))
    calls = [(match[1], match[2] or "") for match in _TEXT.finditer(scripts)]
    return (*dict.fromkeys(calls),)
