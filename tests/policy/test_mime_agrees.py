"""The reader of mails never raises, stays within its limits, and agrees with the email package."""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage, MIMEPart

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.engine.content import Content, ContentFault, ContentLimits
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.model import Header, Message
from tests.policy.corpus.attacks import ATTACKS
from tests.policy.corpus.building import message_of
from tests.policy.corpus.ordinary import ORDINARY

SMALL = ContentLimits(
    parts=20, depth=4, text_bytes=3000, part_header_bytes=500, archive_bytes=2000, names=10
)

# what every charset's codec keeps, and what a reader would not drop or replace
letters = st.text(
    st.characters(codec="iso-8859-1", exclude_categories=("C", "Zs"), exclude_characters="\xad")
    | st.just(" "),
    min_size=1,
    max_size=200,
)
# not one of text or of a page: such a file is read as what its name says, too
file_names = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=("C", "Z"))
    | st.sampled_from("会议ж."),
    min_size=1,
    max_size=60,
).map(lambda name: f"{name}.bin")


@st.composite
def texts(draw: st.DrawFn) -> MIMEPart:
    """Give a text part in some charset and transfer encoding."""
    part = MIMEPart(policy=policy.SMTP)
    text = draw(letters)
    charset = draw(st.sampled_from(("utf-8", "iso-8859-1", "utf-16")))
    encoding = (
        "base64"
        if charset == "utf-16"
        else draw(st.sampled_from(("base64", "quoted-printable", "8bit")))
    )
    part.set_content(text, charset=charset, cte=encoding)
    return part


@st.composite
def files(draw: st.DrawFn) -> MIMEPart:
    """Give an attachment."""
    part = MIMEPart(policy=policy.SMTP)
    data = draw(st.binary(max_size=400))
    part.set_content(data, maintype="application", subtype="x-test", filename=draw(file_names))
    return part


@st.composite
def multiparts(draw: st.DrawFn, children: st.SearchStrategy[MIMEPart]) -> MIMEPart:
    """Give a multipart of some of the children."""
    part = MIMEPart(policy=policy.SMTP)
    part["Content-Type"] = f"multipart/{draw(st.sampled_from(('mixed', 'related', 'alternative')))}"
    for child in draw(st.lists(children, min_size=1, max_size=4)):
        part.attach(child)
    return part


parts = st.recursive(texts() | files(), multiparts, max_leaves=12)


@st.composite
def mails(draw: st.DrawFn) -> EmailMessage:
    """Give a well-formed mail."""
    made = EmailMessage(policy=policy.SMTP)
    made["Subject"] = draw(letters).strip() or "x"
    body = draw(multiparts(parts))
    for name, value in body.items():
        made[name] = value
    made.set_payload(body.get_payload())
    return made


@settings(max_examples=200)
@given(mails())
def test_well_formed_mails_are_read_as_the_email_package_reads_them(made: EmailMessage):
    """Well formed mails are read as the email package reads them."""
    raw = made.as_bytes()
    parsed = email.message_from_bytes(raw, policy=policy.SMTP)
    content = read_content(message_of(raw))
    leaves = [part for part in parsed.walk() if not part.is_multipart()]
    expected = [part.get_content().replace("\r\n", "\n") for part in leaves if _is_text(part)]
    assert [text.replace("\r\n", "\n") for text in content.texts] == [
        one for one in expected if one
    ]
    named = [part for part in leaves if part.get_filename()]
    assert [one.name.split() for one in content.attachments] == [
        str(part.get_filename()).split() for part in named
    ]
    assert [one.size_bytes for one in content.attachments] == [
        len(part.get_payload(decode=True)) for part in named
    ]
    assert content.subject.split() == str(parsed["Subject"]).split()
    assert content.faults <= {ContentFault.BAD_ARCHIVE}  # bytes that happen to begin as one


def _is_text(part: email.message.Message) -> bool:
    return part.get_content_maintype() == "text"


def assert_is_bounded(content: Content, limits: ContentLimits) -> None:
    """Tell that no limit was passed, and that RE2 takes every text."""
    assert len(content.attachments) <= 4 * limits.parts + 40
    assert sum(map(len, content.markups)) <= 5 * limits.text_bytes
    assert sum(len(one.inner_names) for one in content.attachments) <= 2 * limits.names
    for text in (content.subject, *content.texts, *content.markups):
        text.encode()
        assert "\0" not in text
    for one in content.attachments:
        one.name.encode()


header_lines = st.sampled_from(
    (
        *("Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/mixed"),
        *('Content-Type: multipart/x; boundary="b', "Content-Type: multipart/digest;boundary=b"),
        *("Content-Type: text/html; charset=utf-7", "Content-Type: text/plain; charset=utf-16"),
        *(
            "Content-Type: message/rfc822",
            "Content-Type: text/html",
            "Content-Type:",
            "Content-Type",
        ),
        *("Content-Type: application/zip; name*0*=x''%ff; name*1=b; name*=c", "Content-Type: ;;=;"),
        *("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable"),
        *("Content-Transfer-Encoding: x-uuencode", "Content-Transfer-Encoding: x"),
        *(
            'Content-Disposition: attachment; filename="a.zip"',
            "Content-Disposition: x; filename=(",
        ),
        *(
            "Subject: =?utf-8?B?w7",
            "Subject: =?idna?Q?=FF?= =?x?B?=?=",
            " folded",
            ":",
            "From x",
            "",
        ),
    )
)
lines = st.one_of(
    header_lines.map(str.encode),
    st.sampled_from(
        (
            b"--b",
            b"--b--",
            b"--b  ",
            b"--",
            b"----",
            b"--bx",
            b"begin 644 x",
            b"PK\3\4",
            b"<!--",
            b"\0",
        )
    ),
    st.binary(max_size=60),
)
bodies = st.lists(lines, max_size=60).flatmap(
    lambda found: st.sampled_from((b"\r\n", b"\n", b"\r")).map(lambda end: end.join(found))
)


@given(st.lists(header_lines, max_size=4), bodies, st.booleans())
def test_broken_mails_never_raise_and_stay_within_the_limits(
    headers: list[str], body: bytes, is_cut: bool
):
    """Broken mails never raise and stay within the limits."""
    fields = tuple(Header(*line.partition(":")[::2]) for line in headers)
    message = Message(fields, body, len(body) + is_cut)
    content = read_content(message, SMALL)
    assert_is_bounded(content, SMALL)
    assert (ContentFault.BODY_CUT in content.faults) is is_cut


@given(
    st.lists(st.tuples(st.text(max_size=30), st.text(max_size=80)), max_size=5),
    st.binary(max_size=500),
)
def test_any_headers_and_any_bytes_are_read(headers: list[tuple[str, str]], body: bytes):
    """Any headers and any bytes are read."""
    fields = tuple(Header(name, value) for name, value in headers)
    assert_is_bounded(read_content(Message(fields, body, len(body)), SMALL), SMALL)


@given(st.sampled_from(("Content-Type", "Content-Disposition", "Subject")), st.text(max_size=200))
def test_any_value_of_a_header_that_counts_is_read(name: str, value: str):
    """Any value of a header that counts is read."""
    message = Message((Header(name, value),), b"words", 5)
    assert_is_bounded(read_content(message, SMALL), SMALL)


@pytest.mark.parametrize("name", [*ORDINARY, *ATTACKS])
def test_a_mail_of_the_corpus_may_be_cut_anywhere(name: str):
    """A mail of the corpus may be cut anywhere."""
    raw = ORDINARY[name] if name in ORDINARY else ATTACKS[name][0]
    whole = message_of(raw)
    step = max(1, len(whole.body) // 40)
    for length in range(0, len(whole.body), step):
        cut = Message(whole.headers, whole.body[:length], whole.size_bytes)
        content = read_content(cut)
        assert_is_bounded(content, ContentLimits())
        assert ContentFault.BODY_CUT in content.faults


HOSTILE = {
    "boundaries": (b"multipart/mixed; boundary=a", b"--a\n" * 200_000),
    "near boundaries": (b"multipart/mixed; boundary=a", b"--ab\n" * 200_000),
    "headers": (b"multipart/mixed; boundary=a", (b"--a\n" + b":\n" * 5000) * 60),
    "folded headers": (b"multipart/mixed; boundary=a", (b"--a\nSubject:\n" + b" \n" * 9000) * 30),
    "nested": (
        b"multipart/mixed; boundary=a",
        b"--a\nContent-Type: multipart/mixed; boundary=a\n\n" * 9000,
    ),
    "line feeds": (b"multipart/mixed; boundary=a", b"\n" * 1_000_000),
    "HTML of comments": (b"text/html", b"<!--" * 250_000),
    "HTML of tags": (b"text/html", b"<a" * 500_000),
    "HTML of entities": (b"text/html", b"&a" * 300_000),
    "base64 of padding": (b"text/plain", b"=" * 1_000_000),
    "UTF-7": (b"text/plain; charset=utf-7", b"+" * 500_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_of_what_is_hostile_is_read_as_well(name: str):
    """Twice of what is hostile is read as well."""
    kind, body = HOSTILE[name]
    for times in (1, 2):
        message = Message((Header("Content-Type", kind.decode()),), body * times, len(body) * times)
        assert_is_bounded(read_content(message), ContentLimits())


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-uuencode", "8bit"])
def test_a_second_look_is_bounded(encoding: str):
    """Doubled types in nested parts would be read 2 ** depth times."""
    body = b"words"
    for level in range(20, 0, -1):
        boundary = f"b{level}".encode()
        kind = b"Content-Type: multipart/mixed; boundary=" + boundary
        body = (
            kind
            + b"\n"
            + kind
            + b"x\n\n--"
            + boundary
            + b"\n"
            + body
            + b"\n--"
            + boundary
            + b"--\n"
        )
    head = Header("Content-Transfer-Encoding", encoding)
    content = read_content(
        Message((Header("Content-Type", "message/rfc822"), head), body, len(body))
    )
    assert_is_bounded(content, ContentLimits())
    assert len(content.texts) < 200
