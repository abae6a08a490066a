"""Prompts and answers as safe HTML. Raw HTML is shown as text, nothing is fetched, formulas become
readable characters.

Markdown goes through markdown-it without HTML, and what comes out through nh3's list of what is
allowed: two nets, of which either alone would hold.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_inline import StateInline

_LONGEST = 200_000
_TAGS = {
    *(
        [
            "p",
            "br",
            "hr",
            "strong",
            "em",
            "del",
            "code",
            "pre",
            "blockquote",
            "ul",
            "ol",
            "li",
            "a",
            "span",
            "sup",
            "sub",
        ]
    ),
    *(["table", "thead", "tbody", "tr", "th", "td", "h4", "h5", "h6"]),
}
_SCHEMES = ("http", "https", "mailto")
_STARTS = ("http://", "https://", "mailto:")
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "cdot": "·",
    "times": "×", "div": "÷", "pm": "±", "mp": "∓", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠",
    "approx": "≈", "equiv": "≡", "sim": "∼", "infty": "∞", "sum": "∑", "prod": "∏", "int": "∫", "partial": "∂",
    "nabla": "∇", "in": "∈", "notin": "∉", "subset": "⊂", "cup": "∪", "cap": "∩", "forall": "∀", "exists": "∃",
    "to": "→", "rightarrow": "→", "Rightarrow": "⇒", "leftarrow": "←", "ldots": "…", "dots": "…", "cdots": "⋯",
    "quad": "  ", "qquad": "    ", "left": "", "right": "", "displaystyle": "", "log": "log", "ln": "ln", "exp": "exp",
    "sin": "sin", "cos": "cos", "tan": "tan", "max": "max", "min": "min", "lim": "lim",
}  # fmt: skip
_GROUP = r"\{([^{}]*)\}"
_FRACTION = re.compile(rf"\\[dt]?frac\s*{_GROUP}\s*{_GROUP}")
_ROOT = re.compile(rf"\\sqrt\s*{_GROUP}")
_WORDS = re.compile(rf"\\(?:text|mathrm|mathbf|mathbb|mathcal|operatorname|boxed)\s*{_GROUP}")
_RAISED = re.compile(rf"([\^_])(?:{_GROUP}|([^\s{{}}\\]))")
_COMMAND = re.compile(r"\\([A-Za-z]+)")


@lru_cache(maxsize=4096)
def markdown(text: str) -> str:
    """Safe HTML of a text in Markdown. Headings start at the fourth level: those above are the
    page's own."""
    if len(text) > _LONGEST:
        return f"<pre>{escapeHtml(text)}</pre>"
    return nh3.clean(
        _MARKDOWN.render(text),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "th": {"align"}, "td": {"align"}},
        allowed_classes={"span": {"math"}, "pre": {"code"}},
        attribute_filter=_whole_addresses,
        url_schemes=set(_SCHEMES),
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )


def _whole_addresses(tag: str, attribute: str, value: str) -> str | None:
    """Links lead out by their whole address or nowhere: none into this server, none that takes its
    scheme from the page."""
    whole = value.lower().startswith(_STARTS)
    return value if attribute != "href" or whole else None


def readable_math(source: str) -> str:
    """A LaTeX formula as HTML that can be read: letters, signs, fractions and roots in a line,
    raised and lowered parts.

    What is not known stays as it was written.
    """
    source = source[:5000]
    for _ in range(8):  # from the innermost braces outwards
        before = source
        source = _WORDS.sub(r"\1", source)
        source = _FRACTION.sub(lambda m: f"{_bracketed(m[1])}/{_bracketed(m[2])}", source)
        source = _ROOT.sub(lambda m: f"√{_bracketed(m[1])}", source)
        if source == before:
            break
    source = _COMMAND.sub(lambda m: _SYMBOLS.get(m[1], m[0]), source)
    source = source.replace("\\,", " ").replace("\\;", " ").replace("\\!", "").replace("\\\\", "\n")
    return _RAISED.sub(_raised, escapeHtml(source))


def _bracketed(part: str) -> str:
    return part if len(part.strip()) <= 1 or part.strip().isalnum() else f"({part})"


def _raised(found: re.Match[str]) -> str:
    tag = "sup" if found[1] == "^" else "sub"
    return f"<{tag}>{found[2] if found[2] is not None else found[3]}</{tag}>"


def _math_rule(state: StateInline, silent: bool) -> bool:
    """Formulas between $ $, $$ $$, \\( \\) and \\[ \\]. A dollar sign before a space or after one
    is money, not mathematics."""
    for opening, closing in _DELIMITERS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = state.src.find(closing, start, state.posMax)
        body = state.src[start:end] if end > start else ""
        if not body.strip() or (
            opening == "$" and not _is_math(body, state.src[end + 1 : end + 2])
        ):
            continue
        if not silent:
            token = state.push("math", "span", 0)
            token.content = body
        state.pos = end + len(closing)
        return True
    return False


def _is_math(body: str, following: str) -> bool:
    return not (body[0].isspace() or body[-1].isspace() or following.isdigit() or "\n\n" in body)


def _made() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 40}).enable(
        ["table", "strikethrough"]
    )
    made.disable(["image", "html_inline", "html_block"])
    made.inline.ruler.before("escape", "math", _math_rule)
    made.add_render_rule("math", lambda self, tokens, at, options, env: (
        f'<span class="math">{readable_math(tokens[at].content)}</span>'
    ))  # fmt: skip
    for rule in ("heading_open", "heading_close"):
        made.add_render_rule(rule, _heading)
    return made


def _heading(self, tokens, at, options, env) -> str:  # type: ignore[no-untyped-def]
    tag = f"h{min(6, int(tokens[at].tag[1]) + 3)}"
    return f"<{tag}>" if tokens[at].nesting == 1 else f"</{tag}>\n"


_MARKDOWN = _made()
