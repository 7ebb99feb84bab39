"""A tried route over real sockets: what smtp(8) would do up to RCPT, and no secret noted."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nodeagent.adapters.smtp_dialogue import MASK, try_route
from nodeagent.core.route_wire import RouteTestResult, RouteTestWish, Speaker
from tests.fakes.certificates import make_pair
from tests.fakes.next_hop import NextHop, plain_token

SECRET = "correct-horse-battery"
TLS = ("STARTTLS",)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Give a certificate for localhost with its key, and a directory that trusts it."""
    cert, key = make_pair("localhost")
    path = tmp_path / "server.pem"
    path.write_text(cert + key)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.pem").write_text(cert)
    subprocess.run(["openssl", "rehash", str(trusted)], check=True, capture_output=True)
    return path


def wish(hop: NextHop, **values: Any) -> RouteTestWish:
    """Return a wish for this next hop."""
    return RouteTestWish(
        **{
            "id": 7,
            "next_hop": "127.0.0.1",
            "port": hop.port,
            "tls_mode": "none",
            "helo": "node-a.relay.internal",
            "mail_from": "postmaster@a.tld",
            "recipient": "somebody@b.tld",
            **values,
        }
    )


def said(result: RouteTestResult, speaker: Speaker) -> list[str]:
    """Return what one side said."""
    return [line.text for line in result.lines if line.speaker is speaker]


def test_a_plain_route_is_tried_up_to_rcpt() -> None:
    """No DATA: the next hop hears exactly these lines."""
    with NextHop().serve() as hop:
        result = try_route(wish(hop))
    assert (result.id, result.ok, result.text) == (
        7,
        True,
        "127.0.0.1 takes mail for somebody@b.tld.",
    )
    assert hop.heard == [
        "EHLO node-a.relay.internal",
        "MAIL FROM:<postmaster@a.tld>",
        "RCPT TO:<somebody@b.tld>",
        "QUIT",
    ]
    assert said(result, Speaker.CLIENT) == hop.heard
    assert said(result, Speaker.SERVER)[0] == "220 next.hop ESMTP"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"RCPT": "550 5.1.1 no such user."}, "The recipient is refused: 550 5.1.1 no such user."),
        ({"MAIL": "451 4.7.1 later"}, "The sender is refused: 451 4.7.1 later."),
        ({"EHLO": "502 no", "HELO": "550 no"}, "EHLO and HELO are refused: 550 no."),
        ({"RCPT": "what?"}, "The next hop does not speak SMTP."),
    ],
)
def test_a_refusal_is_told_with_its_words(answers: dict[str, str], sentence: str) -> None:
    """The dialogue up to it is shown too."""
    with NextHop(answers=answers).serve() as hop:
        result = try_route(wish(hop))
    assert (result.ok, result.text) == (False, sentence)
    assert said(result, Speaker.SERVER)[-1] == list(answers.values())[-1]


def test_tls_is_used_where_it_is_offered_and_missed_where_it_is_demanded(
    certificate: Path,
) -> None:
    """`may` takes both, `encrypt` insists, `none` never asks."""
    with NextHop(offers=TLS, certificate=certificate).serve() as hop:
        for mode in ("may", "encrypt"):
            result = try_route(wish(hop, tls_mode=mode))
            assert result.ok, result.text
            assert any(line.startswith("TLSv1.") for line in said(result, Speaker.NODE))
        assert "STARTTLS" not in said(try_route(wish(hop)), Speaker.CLIENT)
    with NextHop().serve() as hop:
        assert try_route(wish(hop, tls_mode="may")).ok
        refused = try_route(wish(hop, tls_mode="encrypt"))
        assert refused.text == "TLS is demanded (encrypt), but STARTTLS is not offered."


def test_verify_wants_a_trusted_certificate_of_that_name(certificate: Path) -> None:
    """Trusted and of the name: taken; untrusted, or of another name: refused."""
    trusted = str(certificate.parent / "trusted")
    with NextHop(offers=TLS, certificate=certificate).serve() as hop:
        named = wish(hop, tls_mode="verify", next_hop="localhost")
        assert try_route(named, trusted).ok
        untrusted = try_route(named)
        assert (untrusted.ok, untrusted.text[:12]) == (False, "TLS failed: ")
        other = try_route(wish(hop, tls_mode="verify"), trusted)
        assert not other.ok
        assert "127.0.0.1" in other.text


@pytest.mark.parametrize("offer", ["AUTH PLAIN LOGIN", "AUTH LOGIN"])
def test_credentials_are_used_and_never_noted(certificate: Path, offer: str) -> None:
    """The next hop gets them under TLS; a next hop that sends them back reveals nothing."""
    encoded = base64.b64encode(SECRET.encode()).decode()
    answers = {
        "AUTH LOGIN": "334 VXNlcm5hbWU6",
        base64.b64encode(b"user").decode().upper(): "334 UGFzc3dvcmQ6",
        encoded.upper(): f"235 welcome {encoded} {SECRET}",
        "AUTH PLAIN": f"235 welcome {plain_token('user', SECRET)} {SECRET}",
    }
    hop = NextHop(offers=TLS, offers_with_tls=(offer,), answers=answers, certificate=certificate)
    with hop.serve():
        secrets = {"username": "user", "password": SecretStr(SECRET)}
        result = try_route(wish(hop, tls_mode="encrypt", **secrets))
    assert result.ok, result.text
    sent = " ".join(hop.heard)
    assert encoded in sent or plain_token("user", SECRET) in sent
    noted = result.model_dump_json()
    for shape in (SECRET, encoded, plain_token("user", SECRET)):
        assert shape not in noted
    assert MASK in noted


def test_a_password_is_not_sent_in_clear() -> None:
    """Whoever takes STARTTLS out of the answer gets no password; with TLS off it is meant."""
    secrets = {"username": "user", "password": SecretStr(SECRET)}
    with NextHop(offers=("AUTH PLAIN",)).serve() as hop:
        refused = try_route(wish(hop, tls_mode="may", **secrets))
        assert refused.text == "Without TLS the password is not sent, so mail would wait."
        assert "AUTH" not in " ".join(hop.heard)
        assert try_route(wish(hop, **secrets)).ok
    with NextHop().serve() as hop:
        without = try_route(wish(hop, **secrets))
        assert without.text == "The next hop offers neither AUTH PLAIN nor AUTH LOGIN."


def test_a_refused_password_says_so() -> None:
    """The code of the next hop is shown."""
    secrets = {"username": "user", "password": SecretStr(SECRET)}
    hop = NextHop(offers=("AUTH PLAIN",), answers={"AUTH": "535 5.7.8 wrong"})
    with hop.serve():
        result = try_route(wish(hop, **secrets))
    assert result.text == "User name or password is refused: 535 5.7.8 wrong."


def test_nobody_there_is_one_sentence() -> None:
    """A closed port and a name that does not resolve."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = NextHop(port=listener.getsockname()[1])
    result = try_route(wish(closed))
    assert result.text == "The connection failed: Connection refused."
    unknown = try_route(wish(closed, next_hop="no-such-host.invalid"))
    assert unknown.text.startswith("no-such-host.invalid cannot be resolved: ")


def test_what_a_next_hop_says_stays_one_short_line() -> None:
    """Control characters and endless lines and replies reach nobody."""
    with NextHop(banner="220 \x1b[31mred\x00" + "x" * 2000).serve() as hop:
        result = try_route(wish(hop))
    assert all(line.text.isprintable() and len(line.text) <= 500 for line in result.lines)
    endless = "\r\n".join(["250-more"] * 300) + "\r\n250 end"
    with NextHop(answers={"EHLO": endless}).serve() as hop:
        result = try_route(wish(hop))
    assert result.text == "A reply has more than 50 lines."
    assert len(result.lines) <= 200


def test_a_next_hop_that_hangs_up_is_told() -> None:
    """An end without a word is no success."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hop = NextHop(port=listener.getsockname()[1])

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        result = try_route(wish(hop))
        thread.join()
    assert result.text in {
        "The next hop closed the connection.",
        "The connection failed: Connection reset by peer.",
    }
