"""What a reader sees of HTML, hostile HTML in linear time included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine.html_text import decode_entities, visible_text, without_invisible


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("plain", "plain"),
        ("a  \r\n\t b", "a b"),
        ("f<b></b>ree", "free"),
        ("f<span class='x'>re</span>e", "free"),
        ("fr<font size=1></font>ee", "free"),
        ("f<!-- x -->ree", "free"),
        ("f<!---->ree", "free"),
        ("f<!-->ree", "free"),
        ("f<!--->ree", "free"),
        ("f<!-- a -- b - c --!>ree", "free"),
        ("f<![if !mso]>re<![endif]>e", "free"),
        ("f<?xml x?>r</ bogus>ee", "free"),
        ("f</b>r</>ee", "free"),
        ("f<wbr>re<unknown-element>e", "free"),
        ("f<style>p { color: red }</style>ree", "free"),
        ("f<script>if (a<b) x('</p>')</script >ree", "free"),
        ("f<STYLE type='x'>p</STYLE>ree", "free"),
        ("f<title>The title</title>ree<template>x</template>", "free"),
        ("<head><meta charset=x><style>a</style></head><body>words", "words"),
        ("free<br>money", "free money"),
        ("free<BR/>money", "free money"),
        ("free<bR />money", "free money"),
        ("<p>free<p>money</p>", "free money"),
        ("<table><tr><td>free</td><td>money</td></tr></table>", "free money"),
        ("<ul><li>free<li>money</ul>", "free money"),
        ("free<img src=x>money", "free money"),
        ("<strong>free</strong><s>money</s>", "freemoney"),
        ('<a title="a > b">free</a>', "free"),
        ("<a title='a > b' x = \"c>\">free</a>", "free"),
        ('<p ">free</p>', "free"),
        ("<a b=c>free</a>", "free"),
        ("a < b and c > d", "a < b and c > d"),
        ("1 <2", "1 <2"),
        ("a<3 b", "a<3 b"),
    ],
)
def test_tags_leave_what_a_reader_sees(html: str, text: str):
    """Tags leave what a reader sees."""
    assert visible_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("seen<!-- not closed <b>words</b>", "seen"),
        ("seen<style>not closed", "seen"),
        ("seen<script>a</scrip", "seen"),
        ("seen<a href='not closed>words", "seen"),
        ("seen<b", "seen"),
        ("seen<", "seen<"),
        ("<!-- </div> -->seen<!-- <style> -->also", "seenalso"),
        ("<style><!-- </style>seen", "seen"),
        ("<script><!-- </script>seen", "seen"),
        ("<a title='<!--'>seen</a><!-- -->", "seen"),
        ("<a title='<style>'>seen</a>", "seen"),
    ],
)
def test_what_is_not_closed_or_nested_is_taken_as_browsers_do(html: str, text: str):
    """What is not closed or nested is taken as browsers do."""
    assert visible_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("f&#114;ee", "free"),
        ("f&#x72;ee", "free"),
        ("f&#X72ee", "f\u72ee"),
        ("f&#114ee", "free"),
        ("f&#0000000114;ee", "free"),
        ("&amp;#102;ree", "&#102;ree"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("&lt;b&gt;", "<b>"),
        ("&eacute;&Eacute;&eacutex", "éÉéx"),
        ("&notit;", "¬it;"),
        ("&notin;", "∉"),
        ("&nosuchname; & &; &#; &#x;", "&nosuchname; & &; &#; &#x;"),
        ("free&nbsp;money", "free money"),
        ("&#128;&#0;&#xD800;&#x110000;&#99999999999999999999;", "€����"),
        ("&#1F600;", "\x01F600;"),
        ("f&shy;r&zwnj;&ZeroWidthSpace;ee", "free"),
    ],
)
def test_entities_are_decoded_once(html: str, text: str):
    """Entities are decoded once."""
    assert visible_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('f<span style="display:none">x</span>ree', "free x"),
        ('f<span style="DISPLAY: NONE">x</span>ree', "free x"),
        ('f<span style="visibility:hidden">x</span>ree', "free x"),
        ('f<span style="font-size:0">x</span>ree', "free x"),
        ('f<span style="font-size: 0px">x</span>ree', "free x"),
        ('<span style="font-size:0.9em">free</span> money', "free money"),
        ('f<div style="display:none"><div>x</div>y</div>ree', "free x y"),
        ('f<i style="display:none"><b>x</b></i>ree<i style="display:none">z</i>', "free x z"),
        ('<td style="font-size:0"><p style="font-size:9px">free</p></td> money', "free money"),
        ('<br style="display:none">free', "free"),
        ('<div style="display:none">never closed', "never closed"),
        ('<!-- <div style="display:none"> -->free', "free"),
        ("<style>.x { display:none }</style>free", "free"),
    ],
)
def test_what_a_style_hides_stands_behind_all_else(html: str, text: str):
    """What a style hides stands behind all else."""
    assert visible_text(html) == text


@pytest.mark.parametrize(
    "letter", "\u00ad\u034f\u180e\u200b\u200c\u200d\u200e\u2060\u202e\ufeff\ufe0f"
)
def test_characters_that_nobody_sees_are_left_out(letter: str):
    """Characters that nobody sees are left out."""
    assert without_invisible(f"f{letter}r{letter}{letter}ee") == "free"
    assert visible_text(f"<p>f{letter}ree</p>") == "free"


def test_letters_of_all_alphabets_stay():
    """Letters of all alphabets stay."""
    text = "Grüße Привет 会议通知 שלום مرحبا 👋"
    assert without_invisible(text) == text
    assert visible_text(f"<b>{text}</b>") == text


HOSTILE = (
    *("<", "<a", "<a ", '<a "', '<a ="', "<a ='\"", "<a b= = =", "<a =   ", "</", "<b>", "<td>"),
    *("<!", "<!-", "<!--", "<!--->-", "<!----!", "<?", "<style>", "<style", "<style></styl"),
    *("<script>", "<script", "<scrip", "<s", "<t", "&", "&a", "&#", "&#1", "&#x", "&lt;", "&#x1;"),
    *('<a style="display:none">', '<a style="font-size:0">', "\u200b\u00ad", "-", "=", ">", '"'),
    *("<div style='display:none'></div>", "<p><!--", "&abcdefghijklmnopqrstuvwxyzabcdef"),
)


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("before", ["", "<a ", '<b style="display:none">'])
def test_any_amount_of_anything_is_read(piece: str, before: str):
    """Taken in quadratic time, each of these would run into the limit of every test."""
    visible_text(before + piece * (300_000 // len(piece)))


@given(st.lists(st.sampled_from((*HOSTILE, "word", " ", "<p>", "-->", "</style>", "&amp;"))))
def test_any_html_gives_text_without_runs_of_white_space(pieces: list[str]):
    """Any HTML gives text without runs of white space."""
    text = visible_text("".join(pieces))
    assert text == " ".join(text.split())
    text.encode()


@given(st.text())
def test_any_text_is_taken(text: str):
    """Any text is taken."""
    visible_text(text)
    decode_entities(text)


words = st.text("abcdefg", min_size=1, max_size=8)
attributes = st.sampled_from(("", ' a="b"', " a='>'", ' a="<p>"', " a", " a = b", ' a="<!--"'))
inline = st.sampled_from(("b", "i", "span", "a", "font", "STRONG", "u", "x-y"))


@given(st.lists(st.tuples(words, inline, attributes, st.booleans()), min_size=1))
def test_inline_tags_with_any_attributes_never_change_the_words(
    pieces: list[tuple[str, str, str, bool]],
):
    """Inline tags with any attributes never change the words."""
    html = "".join(
        f"<{name}{more}>{word}</{name}>" + ("" if glued else " ")
        for word, name, more, glued in pieces
    )
    expected = "".join(word + ("" if glued else " ") for word, _name, _more, glued in pieces)
    assert visible_text(html) == " ".join(expected.split())


@given(st.lists(words, min_size=1), st.sampled_from(("p", "div", "td", "LI", "h1", "tr")))
def test_blocks_always_part_words(texts: list[str], name: str):
    """Blocks always part words."""
    html = "".join(f"<{name}>{text}</{name}>" for text in texts)
    assert visible_text(html).split() == texts


inserts = st.sampled_from(
    ("<!--x-->", "<b>", "</i>", "&shy;", "\u200b", "<x-y a='>'>", "<style>p</style>")
)


@given(words, st.lists(inserts))
def test_a_word_is_whole_whatever_is_put_into_it(word: str, between: list[str]):
    """No comment, inline tag or invisible character parts a word."""
    assert visible_text(word[0] + "".join(between) + word[1:]) == word


@pytest.mark.parametrize(
    ("element", "many"),
    [
        ("<script>{}</script>", "if (a<b) </p> "),
        ("<style>{}</style >", "<x </styles> "),
        ("<!--{}-->", "- -- > -x "),
    ],
)
def test_what_nobody_sees_ends_where_it_ends_however_often_it_seems_to(
    element: str, many: str
) -> None:
    """Up to a limit; behind that the rest counts as seen, and what follows is found in any case."""
    assert visible_text(f"a{element.format(many * 3000)}<p>b") == "a b"
    seen = visible_text(f"a{element.format(many * 30_000)}<p>behind")
    assert seen.startswith("a")
    assert seen.endswith("behind")
    assert len(seen) < len(many) * 30_000


@given(st.text(st.sampled_from("ab \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u2003"), max_size=30))
def test_white_space_is_what_split_says_it_is(text: str) -> None:
    """ASCII takes another way to the same result."""
    assert visible_text(text) == " ".join(text.split())
