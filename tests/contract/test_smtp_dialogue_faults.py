"""Next hops that hang, babble, lie or give secrets away: the try ends and nobody learns them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from nodeagent.adapters import smtp_dialogue
from nodeagent.adapters.smtp_dialogue import LONGEST_LINE, MASK, try_route
from nodeagent.core.route_wire import RouteTestResult, Speaker
from tests.contract.test_smtp_dialogue import SECRET, TLS, certificate, said, wish
from tests.fakes.next_hop import NextHop, plain_token

__all__ = ["certificate"]

IN_TIME = "The next hop did not answer in time."
SECRETS = {"username": "user", "password": SecretStr(SECRET)}


@contextmanager
def hop_that(talk: Callable[[socket.socket], None]) -> Iterator[NextHop]:
    """Serve one connection with `talk`, which may go on until the other side has gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                try:
                    talk(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield NextHop(port=listener.getsockname()[1])
    thread.join(timeout=60)
    assert not thread.is_alive(), "the connection is still open"


def read_line(connection: socket.socket) -> bytes:
    """Return what the node says next, nothing once it has gone."""
    line = b""
    while not line.endswith(b"\n"):
        one = connection.recv(1)
        if not one:
            return b""
        line += one
    return line


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the limits of the dialogue come soon."""
    monkeypatch.setattr(smtp_dialogue, "STEP_S", 0.5)
    monkeypatch.setattr(smtp_dialogue, "WHOLE_S", 1.0)


@pytest.mark.usefixtures("hurried")
def test_a_next_hop_that_says_nothing_is_given_up() -> None:
    """It has taken the connection and that is all."""
    with hop_that(lambda connection: connection.recv(1) and None) as hop:
        assert try_route(wish(hop)).text == IN_TIME


@pytest.mark.usefixtures("hurried")
def test_a_next_hop_that_drips_is_given_up() -> None:
    """Each byte comes in time; the whole does not, and no operator waits for hours."""

    def drip(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"2")
            time.sleep(0.02)

    with hop_that(drip) as hop:
        assert try_route(wish(hop)).text == IN_TIME


@pytest.mark.usefixtures("hurried")
def test_a_next_hop_that_hangs_in_the_handshake_is_given_up() -> None:
    """It says yes to STARTTLS and then no word of TLS."""

    def stall(connection: socket.socket) -> None:
        connection.sendall(b"220 hop\r\n")
        read_line(connection)
        connection.sendall(b"250-hop\r\n250 STARTTLS\r\n")
        read_line(connection)
        connection.sendall(b"220 go ahead\r\n")
        while connection.recv(4096):
            pass

    with hop_that(stall) as hop:
        result = try_route(wish(hop, tls_mode="encrypt"))
    assert (result.ok, result.text) == (False, IN_TIME)


def test_a_line_without_an_end_is_given_up() -> None:
    """Memory is bounded, and nothing of the line is kept."""

    def pour(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220" + b"x" * 60_000)

    with hop_that(pour) as hop:
        result = try_route(wish(hop))
    assert result.text == f"A line has more than {LONGEST_LINE} bytes."
    assert said(result, Speaker.SERVER) == []


def test_a_long_line_is_one_line() -> None:
    """Longer than RFC 5321 allows, as some banners are: shortened, and the dialogue goes on."""
    with NextHop(banner="220 " + "x" * 1500).serve() as hop:
        result = try_route(wish(hop))
    assert result.ok, result.text
    banner, greeting, *_rest = said(result, Speaker.SERVER)
    assert len(banner) == 500
    assert greeting == "250 next.hop"


def test_a_reply_that_breaks_off_is_no_answer() -> None:
    """The first line of several, then the end."""

    def break_off(connection: socket.socket) -> None:
        connection.sendall(b"220 hop\r\n")
        read_line(connection)
        connection.sendall(b"250-hop\r\n250-SI")

    with hop_that(break_off) as hop:
        result = try_route(wish(hop))
    assert (result.ok, result.text) == (False, "The next hop closed the connection.")
    assert said(result, Speaker.SERVER) == ["220 hop", "250-hop"]


@pytest.mark.parametrize("parting", [b"", b"421 too long", b"\x00\xff\r\n", b"221-\r\n" * 100])
def test_an_accepted_recipient_stays_accepted_whatever_the_leave(parting: bytes) -> None:
    """Many servers just hang up after QUIT; the route is fine all the same."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 hop\r\n")
        while line := read_line(connection):
            if line == b"QUIT\r\n":
                connection.sendall(parting)
                return
            connection.sendall(b"250 ok\r\n")

    with hop_that(talk) as hop:
        result = try_route(wish(hop))
    assert result.ok, result.text


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"EHLO": "354 x", "HELO": "354 x"}, "EHLO and HELO are refused: 354 x."),
        ({"MAIL": "354 go on"}, "The sender is refused: 354 go on."),
        ({"RCPT": "354 go on"}, "The recipient is refused: 354 go on."),
        ({"RCPT": "199 odd"}, "The next hop does not speak SMTP."),
        ({"RCPT": "25\u0660 ok"}, "The next hop does not speak SMTP."),
        ({"AUTH": "334 once more"}, "User name or password is refused: 334 once more."),
    ],
)
def test_go_on_is_not_yes(answers: dict[str, str], sentence: str) -> None:
    """Only a reply of the class 2 accepts (RFC 5321, 4.2.1), and only digits are a code."""
    with NextHop(offers=("AUTH PLAIN",), answers=answers).serve() as hop:
        result = try_route(wish(hop, **SECRETS))
    assert (result.ok, result.text) == (False, sentence)


def test_a_user_name_is_not_sent_to_who_did_not_ask() -> None:
    """AUTH LOGIN goes on with 334 only: after any other word the next line is a command."""
    hop = NextHop(offers=("AUTH LOGIN",), answers={"AUTH": "250 ok"})
    with hop.serve():
        result = try_route(wish(hop, **SECRETS))
    assert result.text == "AUTH LOGIN is refused: 250 ok."
    assert hop.heard[-1] == "AUTH LOGIN"


def shows_none_of_it(result: RouteTestResult) -> bool:
    """Tell whether neither the secret nor half of it is in a result."""
    noted = result.model_dump_json()
    half = len(SECRET) // 2
    shapes = (SECRET[:half], SECRET[half:], plain_token("user", SECRET))
    return not any(shape in noted for shape in shapes)


def test_a_refusal_that_quotes_the_password_reveals_nothing() -> None:
    """Neither the line nor the sentence about it."""
    token = plain_token("user", SECRET)
    hop = NextHop(offers=("AUTH PLAIN",), answers={"AUTH": f"535 {SECRET} ({token}) is wrong"})
    with hop.serve():
        result = try_route(wish(hop, **SECRETS))
    assert shows_none_of_it(result)
    assert result.text == f"User name or password is refused: 535 {MASK} ({MASK}) is wrong."


@pytest.mark.parametrize("padding", range(470, 505, 5))
def test_a_secret_that_lies_across_a_lines_end_is_masked(padding: int) -> None:
    """What is cut from a long line is cut after the masking: no half of a password is noted."""
    hop = NextHop(offers=("AUTH PLAIN",), answers={"AUTH": f"535 {'x' * padding}{SECRET} no"})
    with hop.serve():
        result = try_route(wish(hop, **SECRETS))
    assert shows_none_of_it(result)


def test_what_was_said_before_tls_does_not_count_after_it(certificate: Path) -> None:
    """Somebody on the way adds replies to the clear part: none is taken for the next hop's."""
    injected = "220 go ahead\r\n250-evil\r\n250 AUTH PLAIN\r\n235 welcome\r\n250 ok\r\n250 ok"
    hop = NextHop(offers=TLS, answers={"STARTTLS": injected}, certificate=certificate)
    with hop.serve():
        result = try_route(wish(hop, tls_mode="encrypt", **SECRETS))
    assert result.text == "The next hop offers neither AUTH PLAIN nor AUTH LOGIN."
    assert "250-evil" not in said(result, Speaker.SERVER)
    assert "AUTH" not in " ".join(hop.heard)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"220 ok\r\n", b"250 ok\r\n"]) | st.binary(max_size=60), max_size=7)
)
def test_no_words_of_a_next_hop_break_the_dialogue(replies: list[bytes]) -> None:
    """Whatever it says before it hangs up, there is a result that the wire takes."""

    def babble(connection: socket.socket) -> None:
        for reply in replies:
            connection.sendall(reply)
            if reply.endswith(b"\n") and not read_line(connection):
                return

    with hop_that(babble) as hop:
        result = try_route(wish(hop))
    assert RouteTestResult.model_validate_json(result.model_dump_json()) == result
    assert result.ok is (said(result, Speaker.CLIENT)[-1:] == ["QUIT"])
    assert all(line.text.isprintable() for line in result.lines)
