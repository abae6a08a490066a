"""Prompts and answers as safe HTML. Raw HTML is shown as text, nothing is fetched from elsewhere;
formulas stand in elements of class `math` as they were written, for KaTeX in the browser.

Markdown goes through markdown-it without HTML, and what comes out through nh3's list of what is
allowed: two nets, of which either alone would hold.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline

from burnish.annotation.tables import IMAGE_NAME

_LONGEST = 200_000
_TAGS = {
    "img",
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
    *(["table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6"]),
}
_IMAGE = re.compile(rf"image:({IMAGE_NAME})\Z")
_SHOWN = re.compile(rf"!\[([^\]\n]*)\]\(image:{IMAGE_NAME}\)")
_SCHEMES = ("http", "https", "mailto")
_STARTS = ("http://", "https://", "mailto:")
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_DISPLAYED = {"$$": "$$", "\\[": "\\]"}


def plain(text: str) -> str:
    """A text whose Markdown is shown as it is written, without the long names of its images."""
    return _SHOWN.sub(r"▣ \1", text)


@lru_cache(maxsize=4096)
def markdown(text: str) -> str:
    """Safe HTML of a text in Markdown. Headings start at the third level: those above are the
    page's own."""
    if len(text) > _LONGEST:
        return f"<pre>{escapeHtml(text)}</pre>"
    return nh3.clean(
        _MARKDOWN.render(text),
        tags=_TAGS,
        attributes={
            "img": {"data-image", "alt"},
            "a": {"href", "title"},
            "ol": {"start"},
            "th": {"align"},
            "td": {"align"},
        },
        allowed_classes={"span": {"math", "display"}, "pre": {"code"}, "img": {"picture"}},
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
            token.content, token.block = body, opening in _DISPLAYED
        state.pos = end + len(closing)
        return True
    return False


def _math_block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """A formula on lines of its own, from $$ to $$ or \\[ to \\]: what looks like a list or a
    heading in it is none."""
    start = state.bMarks[first] + state.tShift[first]
    opening = state.src[start : start + 2]
    closing = _DISPLAYED.get(opening)
    if closing is None:
        return False
    for line in range(first, last):
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        text = text[2:] if line == first else text
        if not text and line > first:
            return False  # a blank line ends a paragraph, and no formula goes on beyond it
        if text.endswith(closing):
            body = state.getLines(first, line + 1, state.blkIndent, False).strip()[2:-2]
            if not body.strip() or closing in body:
                return False
            if not silent:
                token = state.push("math", "span", 0)
                token.content, token.block = body, True
                state.line = line + 1
            return True
        if closing in text:
            return False
    return False


def _is_link(address: str) -> bool:
    """An address of a link, or the name of an image of this server: others stay text."""
    return bool(_IMAGE.match(address)) or address.lower().startswith(_STARTS)


def _image(self, tokens, at, options, env) -> str:  # type: ignore[no-untyped-def]
    """An image that this server has, by its name: scripts give it its address. Others are text."""
    source, words = tokens[at].attrGet("src") or "", escapeHtml(tokens[at].content)
    name = _IMAGE.match(source)
    if name is None:
        return f"![{words}]({escapeHtml(source)})"
    return f'<img class="picture" data-image="{name[1]}" alt="{words}">'


def _math(self, tokens, at, options, env) -> str:  # type: ignore[no-untyped-def]
    kind = "math display" if tokens[at].block else "math"
    return f'<span class="{kind}">{escapeHtml(tokens[at].content.strip())}</span>'


def _is_math(body: str, following: str) -> bool:
    return not (body[0].isspace() or body[-1].isspace() or following.isdigit() or "\n\n" in body)


def _made() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 40}).enable(
        ["table", "strikethrough"]
    )
    made.disable(["html_inline", "html_block"])
    made.validateLink = _is_link  # type: ignore[method-assign]
    made.add_render_rule("image", _image)
    made.inline.ruler.before("escape", "math", _math_rule)
    made.block.ruler.before(
        "fence",
        "math_block",
        _math_block,
        {"alt": ["paragraph", "reference", "blockquote", "list"]},
    )
    made.add_render_rule("math", _math)
    made.core.ruler.push("headings", _headings)
    return made


def _headings(state: StateCore) -> None:
    """Headings from the third level on, none skipped, whatever levels a text begins with: readers
    who go from heading to heading miss nothing."""
    above: list[int] = []
    for token in state.tokens:
        if token.type not in ("heading_open", "heading_close"):
            continue
        if token.nesting == 1:
            level = int(token.tag[1])
            while above and above[-1] >= level:
                above.pop()
            above.append(level)
        token.tag = f"h{min(6, 2 + len(above))}"


_MARKDOWN = _made()
