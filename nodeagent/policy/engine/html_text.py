"""What a reader sees of HTML, in time linear in its length whatever the HTML is.

Theory of operation. One regular expression splits the HTML at everything that is no text: comments,
elements whose text nobody sees, tags. It follows the tokenizer of the HTML standard where tricks
depend on it (a comment that is not closed goes to the end, a quotation mark counts behind "=" only)
and cannot fail once it began at a "<", so no character is looked at twice. A tag of a block becomes
a space; all others nothing, so "f<b></b>ree" and "f<!-- -->ree" are "free".

Text that a style hides is put behind all other text: it tears no word apart, and nobody gets a word
past us by a style that hides it for us and not in a reader's program.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html.entities import html5
from typing import Final

import re2

_BLOCKS: Final = frozenset(
    (
        *("address", "article", "aside", "audio", "blockquote", "body", "br", "button", "canvas"),
        *(
            "caption",
            "center",
            "col",
            "colgroup",
            "dd",
            "details",
            "dialog",
            "dir",
            "div",
            "dl",
            "dt",
        ),
        *("embed", "fieldset", "figcaption", "figure", "footer", "form", "frame", "frameset"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hgroup", "hr", "html", "iframe"),
        *("img", "input", "legend", "li", "link", "main", "menu", "meta", "nav", "object", "ol"),
        *("optgroup", "option", "p", "pre", "section", "select", "summary", "table", "tbody", "td"),
        *("tfoot", "th", "thead", "tr", "ul", "video"),
    )
)
_VOID: Final = frozenset({"br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"})


def _any_case(name: str) -> str:
    """Return a pattern for the name in any case; faster than the flag for it."""
    return "".join(f"[{one}{one.upper()}]" for one in name)


# What is repeated possessively never fails half-way: before Python 3.11.5 the first half would be
# consumed all the same (gh-106052). Other repetitions take memory each time, so they are counted:
# behind these many "<" in a script, or "-" in a comment, its rest is read as if it could be seen.
_MANY: Final = "{0,20000}"
_ATTRIBUTES: Final = r"[^>=]*+(?:=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?[^>=]*+)*+"
_NAME: Final = (  # of all elements but those that begin as one of _UNSEEN does
    r"[a-rA-Ru-zU-Z][^\s/>]*+|[sS][^cCtT\s/>][^\s/>]*+|[tT][^iIeE\s/>][^\s/>]*+|[sStT](?=[\s/>])"
)
_UNSEEN: Final = "|".join(
    rf"{name}(?=[\s/>])[^<]*+(?:<(?!/{name}[\s/>])[^<]*+){_MANY}(?:</[^>]*+>?)?"
    for name in map(_any_case, ("style", "script", "title", "template"))
)
_COMMENT: Final = rf"!--(?:-?>|[^-]*+(?:-(?!-!?>)[^-]*+){_MANY}(?:--!?>)?)"
_OTHER: Final = rf"/?[a-zA-Z]{_ATTRIBUTES}>?|[!?][^>]*+>?|/[^>]*+>?"
_SPLIT: Final = re.compile(rf"<(?:/?({_NAME}){_ATTRIBUTES}>?|{_UNSEEN}|{_COMMENT}|{_OTHER})")
_SPLIT_WHOLE: Final = re.compile(
    rf"<(?:(/?)({_NAME})({_ATTRIBUTES})>?|{_UNSEEN}|{_COMMENT}|{_OTHER})"
)
_HIDING: Final = re2.compile(r"(?i)display: ?none|visibility: ?hidden|font-size: ?0(?:[^.]|$)")
_HIDING_WORDS: Final = ("display:", "visibility:", "font-size:")
_HINTS: Final = ("y:none", "y: none", "y:hidden", "y: hidden", "size:0", "size: 0")
_HIDING_ALL: Final = re2.compile(r"(?i)display: ?none|visibility: ?hidden")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,20}+|#[xX][0-9a-fA-F]{1,20}+|[a-zA-Z0-9]{2,32}+);?")
_LONGEST_OLD_NAME: Final = 6  # "&Agrave", of those that need no ";"
_WINDOWS: Final = {code: bytes([code]).decode("cp1252", "replace") for code in range(0x80, 0xA0)}
_WHITE: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
_INVISIBLE: Final = (
    *"\u00ad\u034f\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e",
    *"\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3164\ufe0e\ufe0f\ufeff\uffa0",
)


def without_invisible(text: str) -> str:
    """Return the text without soft hyphens, zero-width characters and marks of direction."""
    if text.isascii():
        return text
    for one in _INVISIBLE:  # ten times as fast as a regular expression
        if one in text:
            text = text.replace(one, "")
    return text


def visible_text(html: str) -> str:
    """Return what a reader sees, then what a style hides; all white space as single spaces."""
    if "<" in html:
        html = _join_seen_first(html) if _may_hide(html) else _join(html)
    if "&" in html:
        html = decode_entities(html.replace("&nbsp;", " "))
    return _single_spaces(without_invisible(html))


def _single_spaces(text: str) -> str:
    """Return `" ".join(text.split())`; ASCII takes a third of the time in this way."""
    if not text.isascii():
        return " ".join(text.split())
    for one in _WHITE:
        text = text.replace(one, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text.strip()


def decode_entities(text: str) -> str:
    """Return the text with its character references decoded, once."""
    return _ENTITY.sub(_decode_found, text)


def _may_hide(html: str) -> bool:
    """Tell whether anything in the markup may be hidden; plain letters are searched first."""
    if html.isascii():
        lower = html.lower()
        if not any(map(lower.__contains__, _HIDING_WORDS)):
            return False
    return _HIDING.search(html) is not None


def _hides(attributes: str) -> bool:
    """Tell whether a style hides something; spellings that nobody uses are passed over."""
    lower = attributes.lower()
    if any(map(lower.__contains__, _HINTS)):
        return _HIDING.search(lower) is not None
    return False


def _join(html: str) -> str:
    """Return all text."""
    pieces = _SPLIT.split(html)
    names = pieces[1::2]  # None: another token than a tag
    gaps = {name: " " if name and name.lower() in _BLOCKS else "" for name in set(names)}
    pieces[1::2] = [gaps[name] for name in names]
    return "".join(pieces)


def _join_seen_first(html: str) -> str:
    """Return the text that is seen, then the text that a style hides."""
    pieces = iter(_SPLIT_WHOLE.split(html))
    seen: list[str] = [next(pieces)]
    hidden: list[str] = []
    hider = ""  # the name of the element that hides what comes; its nesting
    depth = 0
    has_no_size = False
    for slash, name, attributes, text in zip(pieces, pieces, pieces, pieces, strict=True):
        if name is not None:
            lower = name.lower()
            was_hidden = bool(hider)
            if hider:
                if lower == hider:
                    depth += -1 if slash else 1
                elif has_no_size and "font-size" in attributes and not _hides(attributes):
                    depth = 0  # what is in there has a size
                if depth == 0:
                    hider = ""
            elif attributes and not slash and lower not in _VOID and _hides(attributes):
                hider, depth = lower, 1
                has_no_size = _HIDING_ALL.search(attributes) is None
                hidden.append(" ")
            if lower in _BLOCKS:
                has_no_box = (was_hidden or hider) and not has_no_size
                (hidden if has_no_box else seen).append(" ")
        (hidden if hider else seen).append(text)
    return "".join(seen) + " " + "".join(hidden)


def _decode_found(found: re.Match[str]) -> str:
    return _entity(found[0])


@lru_cache(maxsize=4096)
def _entity(text: str) -> str:
    """Return what one character reference stands for (HTML standard, 13.2.5.72 and on)."""
    name = text[1:].rstrip(";")
    if name[0] == "#":
        is_hexadecimal = name[1] in "xX"
        return _character(int(f"0{name[1:]}", 0) if is_hexadecimal else int(name[1:]))
    if text[-1] == ";" and (whole := html5.get(f"{name};")):
        return whole
    for length in range(min(len(name), _LONGEST_OLD_NAME), 1, -1):
        if (short := html5.get(name[:length])) is not None:
            return short + text[1 + length :]
    return text


def _character(code: int) -> str:
    """Return the character with that number as browsers see it."""
    if code in _WINDOWS:
        return _WINDOWS[code]
    try:
        character = chr(code)
    except (ValueError, OverflowError):
        return "\ufffd"
    return "\ufffd" if not code or "\ud800" <= character <= "\udfff" else character
