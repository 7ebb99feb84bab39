"""What Stalwart sends is understood, as its code and as its documentation have it."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs.hook_request import HookRequest, InvalidRequest
from nodeagent.policy.codecs.http_codecs import HTTP_CODECS, by_path
from nodeagent.policy.codecs.stalwart import StalwartCodec
from nodeagent.policy.model import Client, Envelope, Header, Session, Stage
from tests.fakes.hook_requests import BODY, encoded, request

CODEC = StalwartCodec()
STAGES = ("connect", "ehlo", "auth", "mail", "rcpt", "data")


def read(asked: object) -> HookRequest:
    """Return what the codec makes of it."""
    return CODEC.read(encoded(asked))


def complaint(asked: object) -> str:
    """Return the sentence that refuses it."""
    with pytest.raises(InvalidRequest) as refused:
        read(asked)
    return str(refused.value)


def changed(path: str, value: Any, stage: str = "data") -> dict[str, Any]:
    """Return the request of a stage with one value replaced; the path has dots and numbers."""
    asked = request(stage)
    *ways, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = asked
    for step in ways:
        place = place[step]
    place[last] = value
    return asked


def test_the_registry_has_stalwarts_format_at_its_path() -> None:
    """POST /mta-hook speaks stalwart-v1."""
    assert {path: codec.name for path, codec in HTTP_CODECS.items()} == {"/mta-hook": "stalwart-v1"}


def test_two_formats_at_one_path_are_refused() -> None:
    """A second codec needs a path of its own."""
    with pytest.raises(ValueError, match="same path"):
        by_path(StalwartCodec(), StalwartCodec())


def test_a_whole_mail_is_read() -> None:
    """Each field of the model comes from its place in the request."""
    asked = request("data", helo="mx.example.org")
    asked["context"]["sasl"] = {"login": "user"}
    asked["context"]["tls"] = {"version": "TLSv1.3", "cipher": "AES"}
    found = read(asked)
    assert found.stage is Stage.DATA
    assert found.session == Session(
        client=Client(IPv4Address("192.0.2.1"), 34567),
        helo="mx.example.org",
        login="user",
        is_encrypted=True,
    )
    assert found.envelope == Envelope("john@example.com", ("bill@foobar.test",))
    assert found.message is not None
    assert found.message.queue_id == "2a5b0c"
    assert found.message.body == BODY.encode()
    assert found.message.is_whole


def test_headers_are_raw_and_lose_their_line_end_alone() -> None:
    """The leading space and the folds stay, the trailing CR LF goes."""
    message = read(request()).message
    assert message is not None
    assert message.headers[0] == Header("From", " John Doe <john@example.com>")
    assert message.headers[2] == Header("Subject", " A long subject\r\n that is folded")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_a_stage_is_known_in_any_case(stage: str, spelling: Any) -> None:
    """The code sends "data", the documentation "DATA"."""
    asked = request(stage)
    asked["context"]["stage"] = spelling(stage)
    assert read(asked).stage.value == stage


def test_before_mail_there_is_no_sender() -> None:
    """At connect and ehlo the envelope is absent."""
    for stage in ("connect", "ehlo"):
        assert read(request(stage)).envelope == Envelope(None, ())


def test_explicit_nulls_are_as_good_as_absence() -> None:
    """A test script of a peer sends "envelope": null, "message": null."""
    asked = request("connect") | {"envelope": None, "message": None}
    asked["context"] |= {"sasl": None, "tls": None, "queue": None, "protocol": None}
    found = read(asked)
    assert found.envelope == Envelope()
    assert found.message is None
    assert found.session.login is None
    assert not found.session.is_encrypted


def test_ptr_and_helo_may_be_null() -> None:
    """Both keys are always there, with null when unknown."""
    session = read(request("connect", ptr=None, helo=None)).session
    assert session.helo is None
    assert session.client.name is None


def test_a_name_that_nobody_checked_is_no_name() -> None:
    """Stalwart's ptr is what the DNS says of the address, whoever claims it."""
    assert read(request("connect", ptr="trusted.example.")).session.client.name is None


def test_the_documentations_ehlo_is_read_too() -> None:
    """The code says client.helo, the documentation client.ehlo."""
    asked = request("ehlo")
    del asked["context"]["client"]["helo"]
    asked["context"]["client"]["ehlo"] = "mx.docs.example"
    assert read(asked).session.helo == "mx.docs.example"


@pytest.mark.parametrize("version", [1, "1.0", "1", 1.0, None])
def test_the_protocols_version_is_a_number_or_a_text(version: object) -> None:
    """The code sends 1, the documentation "1.0"."""
    assert read(changed("context.protocol.version", version)).stage is Stage.DATA


@pytest.mark.parametrize("value", [None, {}, {"SIZE": "123"}, {"SIZE": 123, "X": None}])
def test_parameters_may_be_anything_the_documentation_shows(value: object) -> None:
    """Null, or a map with texts or integers."""
    asked = changed("envelope.from.parameters", value)
    asked["envelope"]["to"][0]["parameters"] = value
    assert read(asked).envelope.sender == "john@example.com"


def test_unknown_keys_are_passed_over() -> None:
    """At each level: what a later version adds breaks nothing."""
    asked = request()
    for place in (
        asked,
        asked["context"],
        asked["context"]["client"],
        asked["envelope"],
        asked["envelope"]["to"][0],
        asked["message"],
    ):
        place["laterVersion"] = {"deep": [1, None, "x"]}
    asked["message"]["serverHeaders"] = [["Received", " by us\r\n"]]
    assert read(asked) == read(request())


def test_at_rcpt_the_current_recipient_is_the_last() -> None:
    """Those accepted so far stand before it."""
    asked = request("rcpt")
    asked["envelope"]["to"] = [{"address": "first@a.test"}, {"address": "current@b.test"}]
    assert read(asked).envelope.recipients == ("first@a.test", "current@b.test")


@pytest.mark.parametrize("address", ["", None, "<>"])
def test_the_null_sender_is_a_sender(address: object) -> None:
    """A bounce has a MAIL command, unlike a session that did not come so far."""
    assert read(changed("envelope.from.address", address)).envelope.sender == ""


def test_angle_brackets_are_taken_off() -> None:
    """Addresses are kept without them."""
    assert read(changed("envelope.to.0.address", "<a@b.test>")).envelope.recipients == ("a@b.test",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2001:db8::1", IPv6Address("2001:db8::1")),
        ("::ffff:192.0.2.7", IPv4Address("192.0.2.7")),
        ("fe80::1%eth0", IPv6Address("fe80::1")),
        (None, None),
        ("", None),
    ],
)
def test_the_clients_address(text: str | None, expected: object) -> None:
    """A mapped address is the IPv4 address that lists know; a scope is no part of it."""
    assert read(changed("context.client.ip", text)).session.client.ip == expected


def test_folds_are_cr_lf_whatever_the_mail_had() -> None:
    """A mail with bare line feeds comes with folds of that kind; a bare CR is a space."""
    asked = changed("message.headers.0", ["Subject", " one\n two\r\n\tthree\rfour\n"])
    message = read(asked).message
    assert message is not None
    assert message.headers[0] == Header("Subject", " one\r\n two\r\n\tthree four")


@pytest.mark.parametrize(
    "value", ["a\r\nBcc: x@y.test\r\n", "a\nBcc: x", "a\r\n\r\nbody", "\r\nX: y"]
)
def test_a_header_that_brings_another_one_is_refused(value: str) -> None:
    """A line break that is no fold would begin a header, or the body."""
    sentence = complaint(changed("message.headers.3", ["X-A", value]))
    assert sentence == "message.headers[3] has a line break that is no fold"


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    """No mail can carry one, but JSON can; whole pairs are whole."""
    body = encoded(request()).replace(b"Dear Bill", rb"a\ud800b\udc80c \ud83d\ude00")
    message = CODEC.read(body).message
    assert message is not None
    assert message.body.startswith("a\ufffdb\ufffdc \U0001f600,".encode())
    body = encoded(request()).replace(b"A long", rb"\udfff long")
    message = CODEC.read(body).message
    assert message is not None
    assert message.headers[2].value.startswith(" \ufffd long")


def test_nul_in_a_body_is_kept() -> None:
    """It is for the engine to judge."""
    message = read(changed("message.contents", "a\x00b")).message
    assert message is not None
    assert message.body == b"a\x00b"


@pytest.mark.parametrize("field", ["headers", "contents", "size"])
def test_a_message_may_lack_or_null_its_parts(field: str) -> None:
    """A mail with an empty body, or without headers, is a mail."""
    asked = request()
    asked["message"][field] = None
    assert read(asked).message is not None
    del asked["message"][field]
    assert read(asked).message is not None


WRONG: list[tuple[str, Any, str]] = [
    ("context", None, "context is missing"),
    ("context", [], "context is an array, not an object"),
    ("context.stage", None, "context.stage is null, not a string"),
    ("context.stage", 7, "context.stage is 7, not a string"),
    ("context.stage", "quit", "context.stage is none of connect, ehlo, auth, mail, rcpt, data"),
    ("context.client", "x", "context.client is a string, not an object"),
    ("context.client.ip", "1.2.3", "context.client.ip is no IP address"),
    ("context.client.ip", 1, "context.client.ip is 1, not a string"),
    ("context.client.port", "25", "context.client.port is a string, not a port number"),
    ("context.client.port", True, "context.client.port is true, not a port number"),
    ("context.client.port", 70_000, "context.client.port is 70000, not a port number"),
    ("context.client.helo", "a\r\nb", "context.client.helo has a control character"),
    ("context.sasl", "me", "context.sasl is a string, not an object"),
    ("context.tls", True, "context.tls is true, not an object"),
    ("context.protocol.version", [1], "context.protocol.version is an array, not a number"),
    ("envelope", "x", "envelope is a string, not an object"),
    ("envelope.from", "a@b", "envelope.from is a string, not an object"),
    ("envelope.from.address", 5, "envelope.from.address is 5, not a string"),
    ("envelope.from.address", "a@b\r\nRCPT", "envelope.from.address has a control character"),
    ("envelope.to", "a@b", "envelope.to is a string, not an array"),
    ("envelope.to.0", "a@b", "envelope.to[0] is a string, not an object"),
    ("envelope.to.0.address", None, "envelope.to[0].address is missing"),
    ("envelope.to.0.address", "<>", "envelope.to[0].address is missing"),
    ("envelope.to.0.address", "a\x00@b", "envelope.to[0].address has a control character"),
    ("message", None, "message is missing, and the stage is data"),
    ("message", [], "message is an array, not an object"),
    ("message.headers", {}, "message.headers is an object, not an array"),
    ("message.headers.1", ["To"], "message.headers[1] is no array of a name and a value"),
    ("message.headers.1", ["To", None], "message.headers[1] is no array of two strings"),
    ("message.headers.1", ["", "x"], "message.headers[1] has a name that no header can have"),
    ("message.headers.1", ["A\nB", "x"], "message.headers[1] has a name that no header can have"),
    ("message.headers.1", ["A:B", "x"], "message.headers[1] has a name that no header can have"),
    ("message.contents", 1.5, "message.contents is 1.5, not a string"),
    ("context.queue", 5, "context.queue is 5, not an object"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(path: str, value: Any, sentence: str) -> None:
    """It names the place and the kind, and no value that a stranger chose at length."""
    assert complaint(changed(path, value)) == sentence


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is no JSON (Expecting value, line 1, column 1)"),
        (b"{", "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (b"null", "the body is no JSON object"),
        (b"\xff\xfe\xfd", "the body is no"),
        (b'{"a":"\xff"}', "the body is no UTF-8"),
        (b"[" * 200_000, "the body is nested too deep"),
        (b'{"a":' * 100_000, "the body is nested too deep"),
        (b'{"a":' + b"9" * 10_000 + b"}", "the body has a number that is too long"),
        (b'{"a":"\x00"}', "the body is no JSON (Invalid control character"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, sentence: str) -> None:
    """Whatever the parser of JSON says becomes one sentence."""
    with pytest.raises(InvalidRequest) as refused:
        CODEC.read(body)
    assert str(refused.value).startswith(sentence)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
PLACES = [
    *("context", "context.stage", "context.client", "context.client.ip", "context.client.port"),
    *("context.client.helo", "context.sasl", "context.tls", "context.protocol", "context.queue"),
    *("envelope", "envelope.from", "envelope.from.address", "envelope.to", "envelope.to.0"),
    *("envelope.to.0.address", "message", "message.headers", "message.headers.0"),
    *("message.headers.0.0", "message.headers.0.1", "message.contents", "message.size"),
]


@given(path=st.sampled_from(PLACES), value=JSON)
def test_any_value_at_any_place_is_read_or_refused(path: str, value: Any) -> None:
    """Nothing but `InvalidRequest` is raised, and its sentence is one short line."""
    said = ""
    try:
        assert read(changed(path, value)).stage in Stage
    except InvalidRequest as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 200


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Random bodies are refused."""
    with pytest.raises(InvalidRequest):
        CODEC.read(body)


@given(st.text(), st.text())
def test_what_was_read_can_be_written_as_bytes(name: str, value: str) -> None:
    """Half surrogates and all: what passes the codec never breaks an encoder behind it."""
    asked = changed("message.headers.0", [name, value])
    asked["envelope"]["from"]["address"] = name
    body = json.dumps(asked).encode()
    try:
        found = CODEC.read(body)
    except InvalidRequest:
        return
    assert found.message is not None
    header = found.message.headers[0]
    (header.name + header.value + (found.envelope.sender or "")).encode("utf-8", "surrogateescape")
    assert "\n" not in header.value.replace("\r\n ", "").replace("\r\n\t", "")
