"""Turns what mail headers and charsets encode into text: charsets, RFC 2047, RFC 2231 parameters.

Nothing here raises for any input, and everything takes time linear in it. Charsets come from a
table of our own, for `bytes.decode` would look for a module of any name that a stranger wrote, and
has codecs ("idna", "punycode") that take quadratic time.
"""

from __future__ import annotations

import binascii
import codecs
import re
from encodings.aliases import aliases
from typing import Final
from urllib.parse import unquote_to_bytes

MOST_HEADER_CHARS: Final = 64 * 1024
MOST_PARAMETERS: Final = 200
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "mbcs", "oem", "undefined", "unicode_escape", "raw_unicode_escape"}
    | {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"}
)
_UNLISTED: Final = ("cp720", "cp737", "cp856", "cp874", "cp1006", "koi8_r", "koi8_t", "koi8_u")
_BEYOND_THE_REGISTRY: Final = {
    "unicode11utf7": "utf_7",
    "xsjis": "cp932",
    "xeucjp": "euc_jp",
    "xgbk": "gb18030",
    "gb2312": "gb18030",  # what calls itself so mostly is its superset
    "gbk": "gb18030",
    "ksc56011987": "cp949",
    "euckr": "cp949",
    "iso88591": "cp1252",  # as every reader does (WHATWG encoding standard)
    "latin1": "cp1252",
    "iso88598i": "iso8859_8",
    "utf8mb4": "utf_8",
    "unicode": "utf_16",
    "ucs2": "utf_16",
    "cp65001": "utf_8",
    "windows874": "cp874",
}
_PUNCTUATION: Final = str.maketrans("", "", "-_ .:")
_ASCII: Final = frozenset({"ascii", "utf_8"})
_SEVEN_BITS: Final = bytes([*range(128), *b"?" * 128])
_MOST_WRONG_BYTES: Final = 256 * 1024
_WORD: Final = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_FOLD: Final = re.compile(r"\r?\n[ \t]?")
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?$")


def _charset_table() -> dict[str, str]:
    """Return every name of a charset, in lower case without punctuation, and Python's own."""
    names = {**aliases, **{codec: codec for codec in aliases.values()}}
    table = {
        name.translate(_PUNCTUATION): codec
        for name, codec in names.items()
        if codec not in _NO_CHARSETS
    }
    unlisted = {codec.translate(_PUNCTUATION): codec for codec in _UNLISTED}
    return table | unlisted | _BEYOND_THE_REGISTRY


_CHARSETS: Final = _charset_table()


def whole_unicode(text: str) -> str:
    """Return the text with its bytes that are no UTF-8 read as Windows-1252."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return decode_charset(header_bytes(text), "")[0]
    return text


def header_bytes(text: str) -> bytes:
    """Return the bytes that stood in the mail."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "replace")


def decode_charset(data: bytes, charset: str) -> tuple[str, bool]:
    """Return the text, and whether the bytes were what the charset ("": none given) says."""
    codec = _CHARSETS.get(charset.lower().translate(_PUNCTUATION)) if charset else "ascii"
    if codec is None or codec in _ASCII:
        return _decode_common(data, codec, is_declared=bool(charset))
    if codec == "utf_16":
        codec = _utf16_by_its_zeros(data)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text, is_right = _decode_wrong(data, codec), codec == "cp1252"
    except UnicodeError:  # UTF-16 and UTF-32 without a byte order mark
        return data.decode("utf-8", "replace"), False
    else:
        is_right = True
    return (_no_surrogates(text) if codec == "utf_7" else text), is_right


def _decode_common(data: bytes, codec: str | None, *, is_declared: bool) -> tuple[str, bool]:
    """Decode UTF-8 (ASCII is a part of it), an unknown charset or none at all."""
    if not is_declared and data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace"), True
    try:
        return data.decode("utf-8"), codec is not None
    except UnicodeDecodeError:
        if codec == "utf_8":
            return data.decode("utf-8", "replace"), False
        text = _decode_wrong(data, "cp1252")
        return text, codec is not None and not is_declared


def _decode_wrong(data: bytes, codec: str) -> str:
    """Decode with U+FFFD for what is wrong.

    Some codecs are a hundred times slower with each wrong byte: a table that has U+FFFD in it comes
    to the same, and of the others, which nobody writes mail in, only the beginning is read.
    """
    if codec.startswith(("utf_7", "utf_32")):
        start = data[:_MOST_WRONG_BYTES]
        return (start.translate(_SEVEN_BITS) if codec == "utf_7" else start).decode(
            codec, "replace"
        )
    table = bytes(range(256)).decode(codec, "replace")
    if len(table) == len(_SEVEN_BITS):
        return codecs.charmap_decode(data, "strict", table)[0]
    return data.decode(codec, "replace")


def _utf16_by_its_zeros(data: bytes) -> str:
    """Return the byte order that puts the zeros of Latin letters where they belong."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf_16"
    start = data[:512]
    return "utf_16_be" if start[::2].count(0) > start[1::2].count(0) else "utf_16_le"


def _no_surrogates(text: str) -> str:
    """Return the text of UTF-7, which may spell halves of pairs, with U+FFFD in their place."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def decode_words(value: str) -> str:
    """Return a header's value unfolded, its encoded words (RFC 2047) decoded, quoted or not.

    Neighbours of one charset are decoded together: some writers split characters between them.
    """
    value = value[:MOST_HEADER_CHARS]
    if "\n" in value or "\r" in value:
        value = _FOLD.sub(" ", value).replace("\r", " ")
    if "=?" not in value:
        return whole_unicode(value)
    pieces: list[str] = []
    pending, charset, end = b"", "", 0
    for match in _WORD.finditer(value):
        between = value[end : match.start()]
        its_charset = match[1].partition("*")[0].lower()
        is_joined = end > 0 and not between.strip()
        if not is_joined or its_charset != charset:
            pieces.append(decode_charset(pending, charset)[0])
            pending = b""
        if not is_joined:
            pieces.append(whole_unicode(between))
        pending, charset, end = pending + _decode_word(match[2], match[3]), its_charset, match.end()
    pieces.extend((decode_charset(pending, charset)[0], whole_unicode(value[end:])))
    return "".join(pieces)


def _decode_word(encoding: str, text: str) -> bytes:
    """Return the bytes of one encoded word."""
    raw = header_bytes(text)
    if encoding in "qQ":
        return binascii.a2b_qp(raw, header=True)
    return decode_base64(raw)[0]


_BASE64_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_BASE64: Final = bytes(one for one in range(256) if one not in _BASE64_ALPHABET)
_MOST_PADDED: Final = 100


def decode_base64(raw: bytes) -> tuple[bytes, bool]:
    """Return what readers make of it, and whether it was right; goes on behind padding inside."""
    padding = raw.find(b"=")
    if padding < 0 or not raw[padding:].strip(b"= \t\r\n"):
        try:
            return binascii.a2b_base64(raw), True
        except binascii.Error:
            return _decode_loosely(raw), False
    pieces = raw.split(b"=", _MOST_PADDED)
    return b"".join(_decode_loosely(piece) for piece in pieces), False


def _decode_loosely(raw: bytes) -> bytes:
    """Decode all whole bytes that the letters of the alphabet give, whatever is between."""
    letters = raw.translate(None, _NO_BASE64)
    rest = len(letters) % 4
    if rest == 1:
        letters = letters[:-1]
    elif rest:
        letters += b"=" * (4 - rest)
    return binascii.a2b_base64(letters)


def parse_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first ";" in lower case, and the parameters behind it.

    Of two parameters with one name the first counts; values are still as the sender encoded them.
    """
    value = value[:MOST_HEADER_CHARS]
    if "(" in value:
        value = _without_comments(value)
    pieces = _split_quoted(value) if '"' in value else value.split(";", MOST_PARAMETERS)
    found: dict[str, str] = {}
    for piece in pieces[1 : MOST_PARAMETERS + 1]:
        name, equals, text = piece.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), _unquoted(text.strip()))
    if found and any("*" in name for name in found):
        found = _join_sections(found)
    return pieces[0].strip().lower(), found


def _unquoted(text: str) -> str:
    """Return a parameter's value without its quotation marks."""
    if text[:1] != '"':
        return text
    text = text[1:-1] if len(text) > 1 and text[-1] == '"' else text[1:]
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if "\\" in text else text


_QUOTED_OR_END: Final = re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.?)*+"?)*+', re.DOTALL)


def _split_quoted(value: str) -> list[str]:
    """Split at each ";" that stands in no quoted string."""
    pieces: list[str] = []
    place = 0
    while place <= len(value) and len(pieces) <= MOST_PARAMETERS:
        match = _QUOTED_OR_END.match(value, place)
        end = match.end() if match else len(value)
        pieces.append(value[place:end])
        place = end + 1
    return pieces


_COMMENT_OR_QUOTED: Final = re.compile(
    r'"(?:[^"\\]++|\\.?)*+"?|\((?:[^()\\]++|\\.?)*+\)', re.DOTALL
)


def _without_comments(value: str) -> str:
    """Return the value without the comments (of one level) outside of quoted strings."""
    return _COMMENT_OR_QUOTED.sub(lambda found: found[0] if found[0][0] == '"' else " ", value)


def _join_sections(found: dict[str, str]) -> dict[str, str]:
    """Put together what RFC 2231 splits (name*0, name*1*) and percent-encodes (name*)."""
    whole: dict[str, str] = {}
    sections: dict[str, list[tuple[int, bool, str]]] = {}
    for name, text in found.items():
        match = _SECTION.match(name)
        if match is None or not (match[2] or match[3]):
            whole[name] = text
        else:
            part = (int(match[2] or 0), match[3] is not None, text)
            sections.setdefault(match[1], []).append(part)
    for name, parts in sections.items():
        whole[name] = _decode_sections(sorted(parts))  # they beat a plain one (RFC 6266, 4.3)
    return whole


def _decode_sections(parts: list[tuple[int, bool, str]]) -> str:
    """Return one parameter's value from its sections in their order."""
    charset, is_first, data = "", True, b""
    for _number, is_encoded, text in parts:
        value = text
        if is_encoded and is_first and value.count("'") > 1:
            charset, _language, value = value.split("'", 2)
        is_first = False
        data += unquote_to_bytes(header_bytes(value)) if is_encoded else header_bytes(value)
    if not charset:
        return data.decode("utf-8", "surrogateescape")
    return decode_charset(data, charset)[0]
