"""`relayctl` when what answers is not the control plane it knows, or does not answer at all."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from controlplane.relayctl.profile import Profile, save_profile
from controlplane.relayctl.trust import fetch_certificate, fingerprint_of
from tests.cli.conftest import Operator
from tests.fakes.certificates import make_pair


class OtherServer(ThreadingHTTPServer):
    """Some HTTPS server that answers every request with the same bytes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.directory = directory
        self.status, self.headers, self.body = 200, {"Content-Type": "text/html"}, b"<html>"
        self.is_cut = False
        self.seen: list[str] = []
        self.show(*make_pair("localhost"))

    def show(self, certificate: str, key: str) -> None:
        """Show this certificate from now on."""
        (self.directory / "cert.pem").write_text(certificate)
        (self.directory / "key.pem").write_text(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "cert.pem", self.directory / "key.pem")
        self.context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer over TLS; a client that turns away is no error."""
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            return

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: OtherServer

    def handle_any(self) -> None:
        self.server.seen.append(f"{self.command} {self.headers.get('Authorization')}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        more = 100 if self.server.is_cut else 0
        self.send_header("Content-Length", str(len(self.server.body) + more))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815 - http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server
        """Say nothing."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherServer]:
    """Give a server that is no control plane."""
    with OtherServer(tmp_path) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def operator(
    other: OtherServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Operator:
    """Give an operator whose profile trusts the other server, with a token."""
    made = Operator(monkeypatch, capsys, tmp_path / "home" / "profile.json")
    pin = fingerprint_of(fetch_certificate(other.url))
    profile = Profile(url=other.url, token="the-token", fingerprint=pin)
    save_profile({"RELAYCTL_CONFIG": str(made.config)}, profile)
    return made


def sentence(operator: Operator, *arguments: str) -> str:
    """Return the one sentence of a command that ends with exit code 4."""
    outcome = operator(*arguments)
    assert (outcome.code, outcome.out) == (4, ""), outcome
    (line,) = outcome.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>Welcome</html>"), (302, b""), (200, b""), (200, b"{")]
)
def test_a_web_server_that_is_no_control_plane_is_exit_code_4(
    operator: Operator, other: OtherServer, status: int, body: bytes
) -> None:
    """A page, a redirect to a login, nothing, half of an answer: never a traceback."""
    other.status, other.body = status, body
    for command in (("status",), ("queue", "list"), ("domains", "add", "a.tld")):
        said = sentence(operator, *command)
        assert said == f"relayctl: {other.url} answers, but not as a control plane does."


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, b"<html>Bad Gateway</html>"), (500, b"[]"), (404, b'"x"'), (403, b'{"fields": 1}')],
)
def test_a_refusal_in_another_shape_says_its_status(
    operator: Operator, other: OtherServer, status: int, body: bytes
) -> None:
    """What a proxy in front answers when the control plane is away."""
    other.status, other.body = status, body
    refused = operator("status")
    assert refused.code == 1
    assert refused.err == f"relayctl: The control plane answered {status} without a reason.\n"


def test_an_answer_that_does_not_unpack_is_exit_code_4(
    operator: Operator, other: OtherServer
) -> None:
    """A broken compression is a broken answer, also in an export that comes in parts."""
    other.headers = {"Content-Encoding": "gzip"}
    other.body = gzip.compress(b"{}")[:-9] + b"x" * 9
    for command in (("status",), ("trace", "export")):
        assert "does not answer" in sentence(operator, *command)


def test_an_export_that_is_cut_off_is_not_taken_for_whole(
    operator: Operator, other: OtherServer
) -> None:
    """What came is printed; the exit code says that it is not all."""
    other.headers, other.body, other.is_cut = {"Content-Type": "text/csv"}, b"a,b\r\n", True
    cut = operator("trace", "export")
    assert (cut.code, cut.out) == (4, "a,b\r\n")
    assert "does not answer" in cut.err


def test_a_server_that_went_away_is_exit_code_4(operator: Operator, other: OtherServer) -> None:
    """Every kind of call, and the URL is named."""
    other.server_close()
    for command in (("status",), ("queue", "flush", "--all"), ("domains", "remove", "a.tld")):
        assert other.url in sentence(operator, *command)


def test_no_token_reaches_a_server_whose_certificate_has_changed(
    operator: Operator, other: OtherServer
) -> None:
    """The pin of the login is compared before anything is said."""
    other.show(*make_pair("localhost"))
    other.seen.clear()
    assert "another certificate than the pinned one" in sentence(operator, "status")
    assert other.seen == []


def test_a_certificate_of_another_ca_gets_no_token(
    operator: Operator, other: OtherServer, tmp_path: Path
) -> None:
    """With a CA file, a certificate that the CA did not sign is refused at the handshake."""
    (tmp_path / "ca.pem").write_text(make_pair("ca")[0])
    profile = Profile(url=other.url, token="the-token", ca=str(tmp_path / "ca.pem"))
    save_profile({"RELAYCTL_CONFIG": str(operator.config)}, profile)
    assert "nothing here vouches for" in sentence(operator, "status")
    assert other.seen == []


def test_a_certificate_for_another_name_gets_no_token(
    operator: Operator, other: OtherServer, tmp_path: Path
) -> None:
    """Signed by the trusted CA is not enough: the name has to be the one in the URL."""
    certificate, key = make_pair("relay.example.com")
    other.show(certificate, key)
    (tmp_path / "ca.pem").write_text(certificate)
    profile = Profile(url=other.url, token="the-token", ca=str(tmp_path / "ca.pem"))
    save_profile({"RELAYCTL_CONFIG": str(operator.config)}, profile)
    assert "nothing here vouches for" in sentence(operator, "status")
    assert other.seen == []
    operator.set(RELAYCTL_SERVER_NAME="relay.example.com")
    other.status, other.body = 200, b"[]"
    assert operator("networks", "list").code == 0
    assert other.seen == ["GET Bearer the-token"]


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "t\u00f6ken", "tab\t"])
def test_a_token_that_is_none_is_not_sent_and_not_printed(
    operator: Operator, other: OtherServer, token: str
) -> None:
    """Copied with too much around it, from a chat or a file."""
    operator.set(RELAYCTL_TOKEN=token)
    refused = operator("status")
    assert refused.code == 2
    assert refused.err.startswith("relayctl: RELAYCTL_TOKEN is no token")
    assert token not in refused.err
    assert other.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1",
        "https://ho st:8443",
        "https://127.0.0.1:8443\n",
        "https://h\u00f6st",
        "https://:8443",
        "https://",
        "relay.example.com:8443",
        "file:///etc/passwd",
        "https://127.0.0.1:-1",
    ],
)
def test_a_url_that_cannot_be_one_is_wrong_usage(operator: Operator, url: str) -> None:
    """One sentence, before a connection."""
    operator.set(RELAYCTL_URL=url, RELAYCTL_TOKEN="t")
    refused = operator("status")
    assert refused.code == 2, refused
    assert refused.err.startswith("relayctl: ")


@pytest.mark.parametrize(
    "content", ["[]", "null", '"x"', '{"url": 5}', '{"more": "x"}', '{"token": ["x"]}', "\x00"]
)
def test_a_profile_of_another_shape_is_damaged(operator: Operator, content: str) -> None:
    """Whatever wrote it, the operator is told what to do."""
    operator.config.write_text(content)
    refused = operator("status")
    assert refused.code == 2
    assert refused.err.endswith("is damaged; remove it and log in again.\n")


def test_a_profile_is_readable_for_its_owner_alone(operator: Operator) -> None:
    """The token in it is as good as a password."""
    assert operator.config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in operator.config.parent.iterdir()] == ["profile.json"]
