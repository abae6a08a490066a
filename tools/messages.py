"""What the interface's catalogues of languages lack, and a new one.

    python tools/messages.py            by language: how much there is, and what is missing
    python tools/messages.py pt         writes annotation/locale/pt.po: what is there stays, what is
        new is empty

The English text is the key. Texts are found in the templates (`_("...")`, `ngettext("...", "...",
n)`), in the scripts (`t("...")`, `tn("...", "...", n)`), in `languages.VALUES`, and among errors
whose text has no values in it.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from burnish.annotation.app import language  # noqa: E402
from burnish.annotation.app.settings_form import _GROUPS  # noqa: E402
from burnish.annotation.languages import FOLDER, VALUES, languages, read_po  # noqa: E402

Texts = dict[str, str]
"""English text -> its plural, "" where there is none."""
HERE = FOLDER.parent
_TEMPLATE = re.compile(r'\b(?:_|ngettext)\("((?:[^"\\]|\\.)*)"(?:,\s*"((?:[^"\\]|\\.)*)")?')
_ERRORS = (
    *("service/work.py", "service/drafts.py", "service/choosing.py", "service/submission.py"),
    *("service/chats.py", "service/accounts.py", "service/resets.py", "service/people.py"),
    *(
        "service/crowd.py",
        "service/reviews.py",
        "service/notes.py",
        "app/account_pages.py",
        "app/context.py",
        "app/sign_on_pages.py",
        "service/identities.py",
    ),
)
_HEADER = """msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: {code}\\n"
"Language-Name: {code}\\n"
"Direction: ltr\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"
"""


def texts() -> Texts:
    """Every text of the interface."""
    found: Texts = dict.fromkeys(VALUES, "")
    for title, fields in _GROUPS.items():
        found |= dict.fromkeys((title, *(words for pair in fields.values() for words in pair)), "")
    found.pop("", None)
    for path in sorted((HERE / "templates").glob("*.html")):
        for match in _TEMPLATE.finditer(path.read_text("utf-8")):
            found[match[1]] = match[2] or ""
    for one, more in language.script_calls():
        found[one] = more
    for name in _ERRORS:
        found |= dict.fromkeys(errors_in(HERE / name), "")
    return found


def errors_in(path: Path) -> list[str]:
    """The texts of a module's errors that have no values in them."""
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "").endswith("Error")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


def missing(code: str, wanted: Texts) -> list[str]:
    """What a language lacks."""
    there = languages()[code].texts
    return [text for text in wanted if text not in there]


def write(code: str, wanted: Texts) -> Path:
    """The language's file, with an entry for every text: in the order of `texts`, what is no longer
    used left out."""
    path = FOLDER / f"{code}.po"
    old = path.read_text("utf-8") if path.exists() else _HEADER.format(code=code)
    there = read_po(old)
    count = int(re.search(r"nplurals=(\d)", old)[1])  # type: ignore[index]
    blocks = [old.split("\n\n")[0].rstrip()]
    for text, more in wanted.items():
        forms = there.get(text) or [""] * (count if more else 1)
        lines = [f"msgid {_quoted(text)}"]
        if more:
            lines += [f"msgid_plural {_quoted(more)}"]
            lines += [f"msgstr[{n}] {_quoted(form)}" for n, form in enumerate(forms)]
        else:
            lines += [f"msgstr {_quoted(forms[0])}"]
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n", "utf-8")
    return path


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        for code in sys.argv[1:]:
            print(write(code, texts()).relative_to(ROOT))
    else:
        for code in languages():
            gone = [] if code == "en" else missing(code, texts())
            print(code, f"{len(texts()) - len(gone)} of {len(texts())}", *gone[:40], sep="\n  ")
