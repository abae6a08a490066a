"""The interface in other languages: gettext catalogues under locale/, one file a language.

The English text is the key. A language is one .po file: `Language-Name` in its header is what the
language calls itself, `Direction: rtl` that it is written from right to left. tools/messages.py
lists what a catalogue lacks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from gettext import c2py  # type: ignore[attr-defined]
from pathlib import Path

from burnish.errors import UserError

FOLDER = Path(__file__).parent / "locale"
DEFAULT = "en"
VALUES = (
    *("annotator", "reviewer", "owner"),
    *("training", "qualification", "active", "failed", "paused", "stopped", "retired", "work"),
    *("system", "developer", "user", "assistant", "tool"),
    *("fails the instruction", "makes things up", "unsafe", "private information"),
    *("wrong language", "I do not know the subject", "the prompt makes no sense"),
    *("it disturbs me", "it does not display", "other"),
    *("pairwise", "ranking", "best_worst", "likert", "rubric"),
    *("demonstration", "correction", "chat", "off", "optional", "required"),
    *("open", "begun", "done", "disputed", "sampled", "decided", "known answer"),
    *("added", "there already", "items", "labels", "known"),
    *("Overview", "Review", "Items", "People", "Notes", "Export", "Settings"),
)
"""What is stored in English and shown in the person's language: roles, states, and the flags and
reasons that projects begin with, the tabs."""

_LINE = re.compile(r'(?:(msgid|msgid_plural|msgstr)(?:\[(\d+)\])?\s+)?(".*")\s*$')


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A language: its code, what it calls itself, its direction ("ltr", "rtl") and its texts.

    `texts` has for each English text the forms that stand for it: one, or as many as the language
    has numbers. `plural` says which form a count takes.
    """

    code: str = DEFAULT
    name: str = "English"
    direction: str = "ltr"
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plural: Callable[[int], int] = lambda n: int(n != 1)

    def gettext(self, text: str) -> str:
        """The text in this language; what is not translated stays English."""
        forms = self.texts.get(text)
        return forms[0] if forms else text

    def refusal(self, error: UserError) -> str:
        """What is wrong in this language, where it is translated; else the whole English message,
        with the field it names."""
        forms = self.texts.get(error.problem)
        return forms[0] if forms else str(error)

    def ngettext(self, one: str, more: str, count: int) -> str:
        """The form that a count takes."""
        forms = self.texts.get(one)
        if not forms or len(forms) < 2:
            return one if count == 1 else more
        return forms[min(self.plural(count), len(forms) - 1)]

    def for_scripts(self, texts: Sequence[str]) -> dict[str, object]:
        """What a page's script needs: the forms of `texts`, and the form of each count below 200
        (larger ones go by their last two digits, as in every language here)."""
        kept = {text: list(self.texts[text]) for text in texts if text in self.texts}
        return {"texts": kept, "plural": "".join(str(self.plural(n)) for n in range(200))}


@lru_cache(maxsize=1)
def languages() -> Mapping[str, Catalogue]:
    """Every language there is, English first, the others by code."""
    found = {DEFAULT: Catalogue()}
    for path in sorted(FOLDER.glob("*.po")):
        found[path.stem] = catalogue_of(path)
    return found


def catalogue_of(path: Path) -> Catalogue:
    """The catalogue in a file."""
    entries = read_po(path.read_text("utf-8"))
    header = dict(
        line.split(": ", 1) for line in entries.pop("", [""])[0].splitlines() if ": " in line
    )
    formula = header.get("Plural-Forms", "nplurals=2; plural=(n != 1);").split("plural=")[-1]
    return Catalogue(
        path.stem, header.get("Language-Name", path.stem), header.get("Direction", "ltr"),
        {text: forms for text, forms in entries.items() if all(forms)}, c2py(formula.rstrip(";")),
    )  # fmt: skip


def read_po(text: str) -> dict[str, list[str]]:
    """The entries of a .po file: English text to its forms, "" to the header. Entries that are
    marked fuzzy are left out, as gettext does."""
    entries: dict[str, list[str]] = {}
    for block in re.split(r"\n\s*\n", text):
        parts: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            key = key if match[1] is None else f"{match[1]}{match[2] or ''}"
            parts[key] = parts.get(key, "") + ast.literal_eval(match[3])
        if "msgid" in parts and "#, fuzzy" not in block:
            forms = [value for name, value in parts.items() if name.startswith("msgstr")]
            entries[parts["msgid"]] = forms
    return entries


def language_of(choice: str | None, accepted: str) -> Catalogue:
    """The language chosen, else the first of an Accept-Language header that there is, else
    English."""
    there = languages()
    if choice is not None and choice in there:
        return there[choice]
    wanted: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        tag, _, weight = "".join(part.split()).partition(";q=")
        try:
            wanted.append((-float(weight or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    codes = (code for weight, code in sorted(wanted, key=lambda one: one[0]) if weight)
    return there[next((code for code in codes if code in there), DEFAULT)]
