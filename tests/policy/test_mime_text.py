"""Charsets, encoded words, base64 and parameters of headers, right and wrong."""

from __future__ import annotations

import base64
import binascii
import codecs
from email.header import Header as StandardHeader
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine.mime_text import (
    decode_base64,
    decode_charset,
    decode_words,
    header_bytes,
    parse_parameters,
    whole_unicode,
)

SURROGATES = st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF) | st.characters())
NO_TEXT_CODECS = ("base64", "bz2", "hex", "zip", "rot13", "uu", "quopri", "idna", "punycode")
NO_CHARSETS = (
    "unicode_escape",
    "raw_unicode_escape",
    "mbcs",
    "undefined",
    "../../etc/passwd",
    "os",
)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-8", "utf-8"),
        ("UTF8", "utf-8"),
        ("utf8mb4", "utf-8"),
        ("us-ascii", "ascii"),
        ("windows-1252", "cp1252"),
        ("Windows-1251", "cp1251"),
        ("cp-850", "cp850"),
        ("ISO-8859-15", "iso8859-15"),
        ("iso8859-2", "iso8859-2"),
        ("iso-8859-8-i", "iso8859-8"),
        ("latin1", "cp1252"),
        ("koi8-r", "koi8-r"),
        ("KOI8-U", "koi8-u"),
        ("Shift_JIS", "shift_jis"),
        ("x-sjis", "cp932"),
        ("EUC-KR", "cp949"),
        ("ks_c_5601-1987", "cp949"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("Big5", "big5"),
        ("iso-2022-jp", "iso2022_jp"),
        ("unicode-1-1-utf-7", "utf-7"),
        ("macintosh", "mac-roman"),
        ("TIS-620", "tis-620"),
        ("windows-874", "cp874"),
    ],
)
def test_charsets_are_known_by_the_names_that_mail_uses(charset: str, codec: str):
    """Charsets are known by the names that mail uses."""
    sample = "".join(
        one for one in "a€üжя会議한กא" if one.encode(codec, "ignore").decode(codec) == one
    )
    assert decode_charset(sample.encode(codec), charset) == (sample, True)


@pytest.mark.parametrize(
    "charset", [*NO_TEXT_CODECS, *NO_CHARSETS, "", "x" * 500, "\0", "\udcff", "ü"]
)
def test_what_is_no_charset_is_never_looked_up(charset: str):
    """What is no charset is never looked up."""
    text, is_right = decode_charset(b"words", charset)
    assert text == "words"
    assert is_right is (charset == "")


def test_an_unknown_charset_leaves_nothing_behind_in_the_interpreter():
    """`bytes.decode` would import and remember each name that a stranger writes."""
    for number in range(50):
        decode_charset(b"x", f"stranger-{number}")
    cache = __import__("encodings")._cache
    assert not any("stranger" in name for name in cache)


@given(
    st.binary(max_size=300), st.sampled_from(("utf-8", "utf-7", "utf-16", "utf-32", "gbk", "hz"))
)
def test_any_bytes_in_any_charset_are_whole_unicode(data: bytes, charset: str):
    """Any bytes in any charset are whole unicode."""
    decode_charset(data, charset)[0].encode()


@given(st.binary(max_size=300))
def test_any_bytes_without_a_charset_are_whole_unicode(data: bytes):
    """Any bytes without a charset are whole unicode."""
    decode_charset(data, "")[0].encode()


@given(
    st.binary(max_size=200), st.sampled_from(("cp1252", "iso8859-7", "cp437", "koi8-r", "cp874"))
)
def test_wrong_bytes_are_replaced_as_the_codec_does(data: bytes, codec: str):
    """Wrong bytes are replaced as the codec does."""
    assert decode_charset(data, codec)[0] == data.decode(codec, "replace")


def test_utf_16_without_a_mark_is_known_by_its_zeros():
    """Utf 16 without a mark is known by its zeros."""
    for codec in ("utf-16-le", "utf-16-be"):
        assert decode_charset("Hello words".encode(codec), "utf-16")[0] == "Hello words"


def test_halves_of_pairs_in_utf_7_become_replacement_characters():
    """Halves of pairs in UTF-7 become replacement characters."""
    assert decode_charset(b"+2AA-abc", "utf-7")[0].endswith("abc")
    decode_charset(b"+2AA-abc", "utf-7")[0].encode()


@given(SURROGATES)
def test_any_header_becomes_whole_unicode(text: str):
    """Any header becomes whole unicode."""
    whole_unicode(text).encode()
    decode_words(text).encode()
    header_bytes(text)


letters = st.text(st.characters(exclude_categories=("C", "Z"), max_codepoint=0x2FFF) | st.just(" "))


@given(letters, st.sampled_from(("utf-8", "gb18030")))
def test_encoded_words_of_the_standard_library_are_read(text: str, charset: str):
    """Encoded words of the standard library are read."""
    encoded = StandardHeader(text, charset, maxlinelen=76).encode().replace("\n", "\r\n")
    if "=?" in text:
        return
    assert decode_words(encoded).split() == text.split()


@pytest.mark.parametrize(
    "text",
    [
        "=?",
        "=?=",
        "=?a?b?c",
        "=?utf-8?Q?",
        "=?utf-8?Q?=",
        "=?utf-8?B?%%%?=",
        "=?utf-8?Q?=ZZ?=",
        "?=",
    ],
)
def test_what_is_no_encoded_word_is_taken_as_it_is_or_in_part(text: str):
    """What is no encoded word is taken as it is or in part."""
    decode_words(text * 3).encode()


def test_words_of_one_charset_are_put_together_before_they_are_decoded():
    """Words of one charset are put together before they are decoded."""
    first, second = "ü".encode()[:1], "ü".encode()[1:]
    words = " ".join(f"=?utf-8?B?{base64.b64encode(one).decode()}?=" for one in (first, second))
    assert decode_words(words) == "ü"


def test_long_headers_are_cut():
    """Long headers are cut."""
    assert len(decode_words("x" * 1_000_000)) == 65_536


@given(st.binary(max_size=500), st.integers(1, 100))
def test_right_base64_is_read_however_its_lines_are_cut(data: bytes, width: int):
    """Right base64 is read however its lines are cut."""
    encoded = base64.b64encode(data)
    lines = [encoded[place : place + width] for place in range(0, len(encoded), width)]
    assert decode_base64(b"\r\n".join(lines)) == (data, True)


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_as_base64(raw: bytes):
    """Any bytes are taken as base64."""
    decode_base64(raw)


@given(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=60))
def test_base64_goes_on_behind_padding_inside(first: bytes, second: bytes):
    """Base64 goes on behind padding inside."""
    raw = base64.b64encode(first) + b"\r\n" + base64.b64encode(second)
    assert decode_base64(raw)[0] == first + second


@given(st.binary(min_size=3, max_size=60))
def test_base64_that_was_cut_keeps_its_whole_bytes(data: bytes):
    """Base64 that was cut keeps its whole bytes."""
    raw = base64.b64encode(data).rstrip(b"=")
    for length in range(len(raw)):
        decoded, _is_right = decode_base64(raw[:length])
        assert data.startswith(decoded)
        assert len(decoded) == length * 6 // 8


def test_base64_agrees_with_the_standard_library():
    """Base64 agrees with the standard library."""
    raw = b"d29y\r\nZHM=\r\n"
    assert decode_base64(raw) == (binascii.a2b_base64(raw), True)


@pytest.mark.parametrize(
    ("value", "main", "parameters"),
    [
        ("text/plain", "text/plain", {}),
        ("TEXT/Plain ; CHARSET = utf-8", "text/plain", {"charset": "utf-8"}),
        ('a/b; x="y"; z=q', "a/b", {"x": "y", "z": "q"}),
        ('a/b; x="y;z=\\"q\\""; w=v', "a/b", {"x": 'y;z="q"', "w": "v"}),
        ("a/b (comment; x=y); x=z", "a/b", {"x": "z"}),
        ('a/b; x="(no comment)"', "a/b", {"x": "(no comment)"}),
        ("a/b; x=first; x=second", "a/b", {"x": "first"}),
        ("a/b; x*=utf-8''%C3%BC", "a/b", {"x": "ü"}),
        ("a/b; x*=iso-8859-1'de'%FC", "a/b", {"x": "ü"}),
        ("a/b; x*=none''%FC", "a/b", {"x": "ü"}),
        ("a/b; x*=%41", "a/b", {"x": "A"}),
        ('a/b; x*0="a"; x*1="b"', "a/b", {"x": "ab"}),
        ('a/b; x*10="k"; x*9="j"; x*1="b"', "a/b", {"x": "bjk"}),
        ("a/b; x*0*=utf-8''%C3; x*1*=%BC", "a/b", {"x": "ü"}),
        ("a/b; x*=utf-8''new; x=old", "a/b", {"x": "new"}),
        ('a/b; x="never closed; y=z', "a/b", {"x": "never closed; y=z"}),
        ("a/b;;; =; x", "a/b", {"": ""}),
        ("", "", {}),
        (";", "", {}),
    ],
)
def test_parameters_are_read(value: str, main: str, parameters: dict[str, str]):
    """Parameters are read."""
    assert parse_parameters(value) == (main, parameters)


@given(SURROGATES)
def test_any_value_of_a_header_is_parsed(value: str):
    """Any value of a header is parsed."""
    parse_parameters(value)


@given(st.text(st.sampled_from("\";=*()\\ab'%0 ")))
def test_any_mess_of_quotes_and_comments_is_parsed(value: str):
    """Any mess of quotes and comments is parsed."""
    parse_parameters(f"a/b; {value}")


@pytest.mark.parametrize(
    "piece", ['"', "(", "\\", ";", "a*0=", "=?utf-8?Q?", '"\\', "();", '";"', "=?a?q??="]
)
def test_long_values_are_parsed_in_linear_time(piece: str):
    """Taken in quadratic time, each of these would run into the limit of every test."""
    parse_parameters("a/b; " + piece * (1_000_000 // len(piece)))
    decode_words(piece * (1_000_000 // len(piece)))


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=60))
def test_percent_encoded_names_come_back(name: str):
    """Percent encoded names come back."""
    if "=?" in name:
        return
    encoded = quote(name.encode())
    assert parse_parameters(f"a/b; x*=utf-8''{encoded}")[1]["x"] == name


def test_the_table_of_charsets_holds_only_codecs_of_text():
    """Each name of it can decode bytes, and none of them takes quadratic time."""
    module = __import__("nodeagent.policy.engine.mime_text", fromlist=["_CHARSETS"])
    for codec in set(module._CHARSETS.values()):
        assert codecs.lookup(codec)._is_text_encoding
        assert codec not in {"idna", "punycode"}
