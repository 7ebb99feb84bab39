"""What is read of a mail: its texts, its markup, its attachments, and what was broken in it."""

from __future__ import annotations

import base64

import pytest

from nodeagent.policy.engine.content import Content, ContentFault, ContentLimits, Kind
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.model import Header, Message
from tests.policy.corpus.building import PDF, PNG, mail, message_of, raw_mail, zipped

F = ContentFault
PROGRAM = b"MZ\x90\0\3\0\0\0" + bytes(60) + b"This program cannot be run in DOS mode"


def read(raw: bytes, **limits: int) -> Content:
    """Read a mail, with other limits than the usual ones."""
    return read_content(message_of(raw), ContentLimits(**limits))


def read_raw(*headers: str, body: str | bytes = "", **limits: int) -> Content:
    """Read a mail of these header lines and this body."""
    return read(raw_mail(*headers, body=body), **limits)


def multipart(*parts: str, boundary: str = "b", end: str = "--b--\r\n") -> str:
    """Return the body of a multipart."""
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + end


MIXED = "Content-Type: multipart/mixed; boundary=b"
HTML = "Content-Type: text/html\r\n\r\n"


def test_a_mail_without_mime_headers_is_one_text():
    """A mail without MIME headers is one text."""
    content = read_raw("Subject: Hello", body="Line 1\r\nLine 2\r\n")
    assert content.subject == "Hello"
    assert content.texts == ("Line 1\r\nLine 2\r\n",)
    assert (content.markups, content.attachments, content.faults) == ((), (), frozenset())


def test_an_empty_mail_has_nothing():
    """An empty mail has nothing."""
    assert read_content(Message()) == Content()


def test_headers_are_handed_on_as_they_came():
    """Headers are handed on as they came."""
    message = Message((Header("X-Test", " a\r\n b"),), b"", 0)
    assert read_content(message).headers is message.headers


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        ("Subject: =?utf-8?B?R3LDvMOfZQ==?= aus =?iso-8859-1?Q?K=F6ln?=", "Grüße aus Köln"),
        ("Subject: =?utf-8?Q?a?=\r\n =?utf-8?Q?b?=", "ab"),
        ("Subject: =?utf-8?B?w7w=?= =?utf-8?B?w58=?=", "üß"),
        ("Subject: =?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "ü"),
        ("Subject: =?koi8-r?B?8NLJ18XU?=", "Привет"),
        ("Subject: =?iso-2022-jp?B?GyRCJTMlcyVLJUEbKEI=?=", "コンニチ"),
        ("Subject: =?x-unknown?Q?still_there?=", "still there"),
        ("Subject: =?utf-8*de?Q?mit_Sprache?=", "mit Sprache"),
        ("Subject: =?utf-8?X?no?= word", "=?utf-8?X?no?= word"),
        ("Subject: folded\r\n and\r\n\tlong", "folded and long"),
        ("Subject: fr\u00ade\u200be", "free"),
        ("subject: lower case", "lower case"),
        ("SUBJECT : space before the colon", "space before the colon"),
        ("X: y", ""),
    ],
)
def test_the_subject_is_what_a_reader_sees(line: str, subject: str):
    """The subject is what a reader sees."""
    assert read_raw(line).subject == subject


def test_raw_bytes_of_windows_in_the_subject_are_read():
    """Raw bytes of windows in the subject are read."""
    message = Message((Header("Subject", " Gr\udcfc\udcdfe"),), b"", 0)
    assert read_content(message).subject == "Grüße"


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        (["Content-Transfer-Encoding: base64"], base64.b64encode(b"hidden words"), "hidden words"),
        (["Content-Transfer-Encoding: BASE64 "], b"aGlkZGVu\r\nIHdvcmRz", "hidden words"),
        (["Content-Transfer-Encoding: base64"], b"aGlk#ZGVu!IHdvcmRz", "hidden words"),
        (["Content-Transfer-Encoding: quoted-printable"], b"hid=64en=\r\n words", "hidden words"),
        (["Content-Transfer-Encoding: x-uuencode"], b"begin 644 x\r\n#0V%T\r\n`\r\nend", "Cat"),
        (["Content-Type: text/plain; charset=iso-8859-1"], b"Gr\xfc\xdfe", "Grüße"),
        (["Content-Type: text/plain; charset=utf-16le"], "weiß".encode("utf-16-le"), "weiß"),
        (["Content-Type: text/plain; charset=utf-16"], "weiß".encode("utf-16-be"), "weiß"),
        (["Content-Type: text/plain; charset=utf-7"], b"+ADw-b+AD4-", "<b>"),
        (["Content-Type: text/plain; charset=cp1251"], "Привет".encode("cp1251"), "Привет"),
        (["Content-Type: text/plain; charset=gb2312"], "会议".encode("gb2312"), "会议"),
        (["Content-Type: text/plain"], "Grüße".encode("cp1252"), "Grüße"),
        (["Content-Type: text/plain"], "Grüße".encode(), "Grüße"),
        (["Content-Type: text/plain"], "Grüße".encode("utf-16"), "Grüße"),
        (["Content-Type: nonsense"], b"still a text", "still a text"),
        (["Content-Type: text/x-patch"], b"-a\r\n+b", "-a\r\n+b"),
    ],
)
def test_a_text_is_decoded(headers: list[str], body: bytes, text: str):
    """A text is decoded."""
    content = read_raw(*headers, body=body)
    assert content.texts == (text,)
    assert content.faults == frozenset()


def test_html_is_given_as_a_reader_sees_it_and_as_markup():
    """HTML is given as a reader sees it and as markup."""
    content = read_raw("Content-Type: text/html", body="<p>f&#114;ee<!-- x --></p>")
    assert content.texts == ("free",)
    assert content.markups == ("<p>f&#114;ee<!-- x --></p>",)


def test_html_without_a_charset_is_read_by_its_meta_element():
    """HTML without a charset is read by its meta element."""
    body = '<meta charset="iso-8859-5"><p>Привет</p>'.encode("iso-8859-5")
    assert read_raw("Content-Type: text/html", body=body).texts == ("Привет",)


def test_all_texts_of_an_alternative_are_read():
    """All texts of an alternative are read."""
    content = read(mail("x", "plain words\n", "<p>other <b>words</b></p>"))
    assert [text.strip() for text in content.texts] == ["plain words", "other words"]


def test_binary_parts_are_no_text():
    """Binary parts are no text."""
    content = read(mail("x", "words\n", attachments=(("a.png", "image/png", PNG),)))
    assert [text.strip() for text in content.texts] == ["words"]


def test_an_attachment_tells_name_type_kind_and_size():
    """An attachment tells name type kind and size."""
    content = read(mail("x", "words\n", attachments=(("Grüße.pdf", "application/pdf", PDF),)))
    (found,) = content.attachments
    assert (found.name, found.declared_type) == ("Grüße.pdf", "application/pdf")
    assert (found.kind, found.size_bytes) == (Kind.PDF, len(PDF))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Content-Disposition: attachment; filename=a.exe", "a.exe"),
        ('Content-Disposition: attachment; filename="a b;c.exe"', "a b;c.exe"),
        ('Content-Disposition: attachment; filename="a\\"b.exe"', 'a"b.exe'),
        ("Content-Disposition: attachment; filename*=utf-8''%C3%BC.exe", "ü.exe"),
        ("Content-Disposition: attachment; filename*=utf-8'de'%C3%BC.exe; filename=x", "ü.exe"),
        ('Content-Disposition: attachment; filename*0="a."; filename*1=ex; filename*2=e', "a.exe"),
        ("Content-Disposition: attachment; filename*1*=%65xe; filename*0*=''a.", "a.exe"),
        ('Content-Disposition: attachment; filename="=?utf-8?B?w7wuZXhl?="', "ü.exe"),
        ("Content-Disposition: attachment; filename==?utf-8?Q?a=2Eexe?=", "a.exe"),
        ("Content-Disposition: attachment;\r\n\tfilename=a.exe", "a.exe"),
        ("Content-Disposition: attachment (why); filename=a.exe (it is)", "a.exe"),
        ("Content-Disposition: ATTACHMENT; FILENAME=A.EXE", "A.EXE"),
        ("Content-Disposition: inline; filename=a.exe", "a.exe"),
        ('Content-Type: application/x; name="a.exe"', "a.exe"),
    ],
)
def test_the_name_of_an_attachment_is_found_however_it_is_written(header: str, name: str):
    """The name of an attachment is found however it is written."""
    content = read_raw(MIXED, body=multipart(f"{header}\r\n\r\nxx"))
    assert [one.name for one in content.attachments] == [name]


def test_two_different_names_are_both_told():
    """Two different names are both told."""
    part = (
        'Content-Type: text/plain; name="a.exe"\r\nContent-Disposition: attachment; filename=a.txt'
    )
    content = read_raw(MIXED, body=multipart(f"{part}\r\n\r\nxx"))
    assert {one.name for one in content.attachments} == {"a.txt", "a.exe"}


def test_the_names_in_a_zip_are_told():
    """The names in a ZIP are told."""
    data = zipped("folder/a.exe", "b.txt")
    content = read(mail("x", "y\n", attachments=(("a.zip", "application/zip", data),)))
    assert content.attachments[0].inner_names == ("folder/a.exe", "b.txt")
    assert not content.attachments[0].is_encrypted


def test_a_text_attachment_is_read_and_listed():
    """A text attachment is read and listed."""
    content = read(mail("x", "y\n", attachments=(("notes.txt", "text/plain", b"more words"),)))
    assert content.texts[-1].strip() == "more words"
    assert content.attachments[0].name == "notes.txt"


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", "text/html"])
def test_a_file_of_html_is_markup_whatever_its_type_says(kind: str):
    """A file of HTML is markup whatever its type says."""
    content = read(mail("x", "y\n", attachments=(("invoice.htm", kind, b"<b>pay</b> now"),)))
    assert "pay now" in content.texts
    assert [markup.strip() for markup in content.markups] == ["<b>pay</b> now"]


def test_html_without_a_name_is_known_by_its_beginning():
    """HTML without a name is known by its beginning."""
    part = "Content-Type: application/octet-stream\r\n\r\n<!DOCTYPE html><p>words</p>"
    content = read_raw(MIXED, body=multipart(part))
    assert content.texts == ("words",)


@pytest.mark.parametrize(
    "part", ["Content-Type: text/plain; name=a.txt\r\n", "Content-Type: text/plain\r\n"]
)
def test_a_program_that_calls_itself_text_is_an_attachment(part: str):
    """A program that calls itself text is an attachment."""
    encoded = base64.b64encode(PROGRAM).decode()
    body = multipart(f"{part}Content-Transfer-Encoding: base64\r\n\r\n{encoded}")
    content = read_raw(MIXED, body=body)
    assert content.texts == ()
    assert [one.kind for one in content.attachments] == [Kind.WINDOWS_PROGRAM]


def test_files_in_a_text_by_uuencode_are_attachments():
    """Files in a text by uuencode are attachments."""
    content = read_raw("Subject: x", body="See\r\nbegin 644 evil.exe\r\n#35J0\r\n`\r\nend\r\n")
    assert [(one.name, one.size_bytes) for one in content.attachments] == [("evil.exe", 0)]


def test_a_mail_in_the_mail_is_read_with_its_subject():
    """A mail in the mail is read with its subject."""
    inner = "Subject: inner =?utf-8?Q?=C3=BC?=\r\nContent-Type: text/html\r\n\r\n<p>deep</p>"
    content = read_raw(MIXED, body=multipart(f"Content-Type: message/rfc822\r\n\r\n{inner}"))
    assert content.texts == ("inner ü", "deep")


def test_a_mail_in_the_mail_is_read_through_base64():
    """A mail in the mail is read through base64."""
    inner = base64.b64encode(b"Subject: inner\r\n\r\ndeep").decode()
    head = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert read_raw(MIXED, body=multipart(head + inner)).texts == ("inner", "deep")


def test_an_attached_mail_file_is_read():
    """An attached mail file is read."""
    data = b"Subject: inner\r\n\r\ndeep words"
    content = read(mail("x", "y\n", attachments=(("old.eml", "application/octet-stream", data),)))
    assert content.texts[1:] == ("inner", "deep words")


def test_parts_of_a_digest_are_mails():
    """Parts of a digest are mails."""
    body = multipart("\r\nSubject: one\r\n\r\nfirst", "\r\nSubject: two\r\n\r\nsecond")
    content = read_raw("Content-Type: multipart/digest; boundary=b", body=body)
    assert content.texts == ("one", "first", "two", "second")


def test_preamble_and_epilogue_are_not_shown():
    """Preamble and epilogue are not shown."""
    body = "for old programs\r\n" + multipart("\r\nwords") + "epilogue\r\n"
    content = read_raw(MIXED, body=body)
    assert (content.texts, content.faults) == (("words",), frozenset())


def test_bare_line_feeds_end_lines_as_well():
    """Bare line feeds end lines as well."""
    body = multipart("Content-Type: text/html\r\n\r\n<p>a</p>", "\r\nb").replace("\r\n", "\n")
    assert read_raw(MIXED, body=body).texts == ("a", "b")


@pytest.mark.parametrize("boundary", ["b", "b_1", "=_x'()+,-./:=?", "a" * 70])
def test_boundaries_of_all_letters_are_found(boundary: str):
    """Boundaries of all letters are found."""
    body = multipart("\r\nwords", boundary=boundary, end=f"--{boundary}--")
    content = read_raw(f'Content-Type: multipart/mixed; boundary="{boundary}"', body=body)
    assert (content.texts, content.faults) == (("words",), frozenset())


def test_a_boundary_that_begins_another_one_is_not_mistaken():
    """A boundary that begins another one is not mistaken."""
    inner = multipart("\r\ninner", boundary="b1", end="--b1--")
    part = f"Content-Type: multipart/mixed; boundary=b1\r\n\r\n{inner}"
    content = read_raw(MIXED, body=multipart(part, "\r\nouter"))
    assert (content.texts, content.faults) == (("inner", "outer"), frozenset())


@pytest.mark.parametrize(
    ("headers", "body", "fault", "words"),
    [
        ([MIXED], "no part at all", F.BAD_BOUNDARY, "no part"),
        (["Content-Type: multipart/mixed"], "no boundary", F.BAD_BOUNDARY, "no boundary"),
        (['Content-Type: multipart/mixed; boundary=""'], "--\r\n\r\nx", F.BAD_BOUNDARY, "x"),
        ([MIXED], multipart("\r\nwords", end=""), F.NO_END_BOUNDARY, "words"),
        ([MIXED], multipart("\r\na") + multipart("\r\nbehind"), F.BAD_BOUNDARY, "behind"),
        ([], b"a\0b\0words", F.NUL_BYTES, "abwords"),
        (["Content-Type: text/plain; charset=x-none"], b"words", F.BAD_CHARSET, "words"),
        (["Content-Type: text/plain; charset=idna"], b"words", F.BAD_CHARSET, "words"),
        (["Content-Type: text/plain; charset=utf-8"], b"\xff words", F.BAD_CHARSET, "words"),
        (["Content-Type: text/plain; charset=utf-32"], b"words", F.BAD_CHARSET, ""),
        (["Content-Transfer-Encoding: base64"], "d29yZHM", F.BAD_ENCODING, "words"),
        (["Content-Transfer-Encoding: base64"], "d28=\r\ncmRz", F.BAD_ENCODING, "words"),
        (["Content-Transfer-Encoding: x-new"], "words", F.BAD_ENCODING, "words"),
        (["Content-Type: text/plain", "Content-Type: text/html"], "words", F.DUPLICATE_HEADER, "w"),
    ],
)
def test_what_is_broken_is_told_and_read_all_the_same(
    headers: list[str], body: str | bytes, fault: ContentFault, words: str
):
    """What is broken is told and read all the same."""
    content = read_raw(*headers, body=body)
    assert fault in content.faults
    assert words in " ".join(content.texts)


def test_both_readings_of_a_doubled_type_are_taken():
    """Both readings of a doubled type are taken."""
    part = "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nf<b></b>ree"
    content = read_raw(MIXED, body=multipart(part))
    assert content.texts == ("f<b></b>ree", "free")


def test_a_line_that_is_no_header_begins_the_text_of_a_part():
    """A line that is no header begins the text of a part."""
    content = read_raw(MIXED, body=multipart("Buy now and save: today\r\n\r\nmore"))
    assert "Buy now and save: today" in content.texts[0]


def test_a_part_of_headers_alone_is_empty():
    """A part of headers alone is empty."""
    content = read_raw(MIXED, body=multipart("Content-Type: text/html"))
    assert content.texts == ()


def test_a_mail_that_was_cut_says_so():
    """A mail that was cut says so."""
    assert read_content(Message((), b"beginn", 4711)).faults == {F.BODY_CUT}


def test_only_so_much_text_is_read():
    """Only so much text is read."""
    content = read_raw("Subject: x", body="words " * 1000, text_bytes=100)
    assert [len(text) for text in content.texts] == [100]
    assert content.faults == {F.TEXT_CUT}


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-uuencode", "8bit"])
def test_only_so_much_encoded_text_is_read(encoding: str):
    """Only so much encoded text is read."""
    body = base64.b64encode(b"words " * 1000) if encoding == "base64" else b"words " * 1000
    content = read_raw(f"Content-Transfer-Encoding: {encoding}", body=body, text_bytes=100)
    assert sum(map(len, content.texts)) <= 100
    assert F.BAD_ENCODING not in content.faults


def test_the_limit_of_text_is_for_all_parts_together():
    """The limit of text is for all parts together."""
    content = read_raw(MIXED, body=multipart(*["\r\n" + "x" * 60] * 5), text_bytes=100)
    assert [len(text) for text in content.texts] == [60, 40]
    assert content.faults == {F.TEXT_CUT}


def test_only_so_many_parts_are_read():
    """Only so many parts are read."""
    content = read_raw(MIXED, body=multipart(*["\r\nx"] * 20), parts=5)
    assert len(content.texts) == 5
    assert content.faults == {F.TOO_MANY_PARTS}


def test_ten_thousand_parts_end_at_the_limit():
    """Ten thousand parts end at the limit."""
    content = read_raw(MIXED, body=multipart(*["\r\nx"] * 10_000))
    assert len(content.texts) == ContentLimits().parts
    assert F.TOO_MANY_PARTS in content.faults


def test_lines_that_look_like_boundaries_end_at_a_limit():
    """Lines that look like boundaries end at a limit."""
    content = read_raw(MIXED, body="--b\r\n\r\n" + "--bx\r\n" * 30_000)
    assert F.TOO_MANY_PARTS in content.faults


def test_only_so_deep_is_read_and_the_rest_is_a_text():
    """Only so deep is read and the rest is a text."""
    body = "\r\nthe end"
    for level in range(9, 0, -1):
        inner = multipart(body, boundary=f"b{level}", end=f"--b{level}--")
        body = f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n{inner}"
    head, _, rest = body.partition("\r\n\r\n")
    content = read_raw(head, body=rest, depth=5)
    assert content.faults == {F.TOO_DEEP}
    assert "the end" in content.texts[0]
    assert read_raw(head, body=rest).texts == ("the end",)


def test_long_headers_of_a_part_are_cut():
    """Long headers of a part are cut."""
    part = "X-Long: " + "x" * 5000 + "\r\nContent-Type: text/html\r\n\r\n<p>words</p>"
    content = read_raw(MIXED, body=multipart(part), part_header_bytes=1000)
    assert content.faults == {F.HEADERS_CUT}
    assert "words" in content.texts[0]


def test_only_so_many_names_of_all_archives_are_told():
    """Only so many names of all archives are told."""
    data = zipped(*(f"{number}.txt" for number in range(20)))
    files = (("a.zip", "application/zip", data), ("b.zip", "application/zip", data))
    content = read(mail("x", "y\n", attachments=files), names=30)
    assert [len(one.inner_names) for one in content.attachments] == [20, 10]
    assert content.faults == {F.NAMES_CUT}


def test_an_archive_that_is_longer_than_the_limit_is_read_in_part():
    """An archive that is longer than the limit is read in part."""
    data = zipped(*(f"{number}.txt" for number in range(50)))
    content = read(
        mail("x", "y\n", attachments=(("a.zip", "application/zip", data),)), archive_bytes=900
    )
    assert 0 < len(content.attachments[0].inner_names) < 50
    assert F.BAD_ARCHIVE in content.faults
