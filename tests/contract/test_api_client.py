"""The agent's calls of the control plane over real TLS: odd answers, strangers, and enrolment."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nodeagent import cli
from nodeagent.adapters import api_client
from nodeagent.adapters.api_client import ControlPlaneClient, fetch_ca
from nodeagent.core.agent_api import AGENT_API, TLS_SERVER_NAME
from nodeagent.core.contract import SwitchoverResult
from nodeagent.core.queue_contract import QueueAnswer, QueueReport
from nodeagent.errors import AgentError, Refused, Unreachable
from tests.fakes.certificates import make_pair

TOKEN = "a-signed-token"
REPORT = QueueReport(session="s", sequence=1, is_complete=True, scan_age_s=0.0)
DONE = SwitchoverResult(id=1, ok=True, reason="")
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Answers every request alike; `heard` are the requests with their tokens and bodies."""

    ca_pem: str
    answer: Answer
    heard: list[tuple[str, str | None, bytes]] = field(default_factory=list)
    url: str = ""

    def client(self, ca_pem: str | None = None) -> ControlPlaneClient:
        """Return an agent's client that trusts this server, or another CA."""
        return ControlPlaneClient(self.url, ca_pem or self.ca_pem, lambda: TOKEN)


def say(body: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return an answer of these bytes."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def hang_up(request: http.server.BaseHTTPRequestHandler) -> None:
    """End the connection in the middle of the body that was announced."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b"{")
    request.close_connection = True


@pytest.fixture(autouse=True)
def _patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a server that is a thread beside it the time to take a connection."""
    monkeypatch.setattr(api_client, "CONNECT_TIMEOUT_S", 30.0)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give what starts a server with a certificate of this name; without a name it speaks HTTP."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(answer: Answer, name: str = TLS_SERVER_NAME) -> Server:
        ca_pem, key = make_pair(name or TLS_SERVER_NAME)
        server = Server(ca_pem, answer)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.heard.append((self.path, self.headers.get("Authorization"), body))
                server.answer(self)

            do_GET = do_POST  # noqa: N815 - http.server's own name

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        listener.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
        server.url = f"http://127.0.0.1:{listener.server_port}"
        if name:
            pair = tmp_path / f"{len(running)}.pem"
            pair.write_text(ca_pem + key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair)
            listener.socket = context.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
            server.url = server.url.replace("http:", "https:")
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        running.append(listener)
        return server

    yield start
    for listener in running:
        listener.shutdown()
        listener.server_close()


GOOD = QueueAnswer(is_expected=True).model_dump_json().encode()


def test_an_answer_of_a_newer_control_plane_is_taken(serve: Callable[..., Server]) -> None:
    """Fields that this agent does not know are passed over, those it needs are read."""
    newer = json.loads(GOOD) | {"invented_later": {"a": [1]}}
    server = serve(say(json.dumps(newer).encode()))
    assert server.client().report_queue(REPORT) == QueueAnswer(is_expected=True)
    assert server.heard[0][:2] == (AGENT_API["queue"], f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    "answer",
    [
        say(b""),
        say(b"<html>maintenance</html>"),
        say(b"null"),
        say(b'{"is_expected": "perhaps"}'),
        say(b"{}"),
        say(b"\xff\xfe"),
        say(b"[" * 100_000),
        say(GOOD, headers=(("Content-Encoding", "gzip"),)),
        say(gzip.compress(GOOD)[:-12], headers=(("Content-Encoding", "gzip"),)),
        say(b"", 302, (("Location", "https://elsewhere.invalid/"),)),
        say(b'{"detail": "later"}', 503),
        hang_up,
    ],
)
def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(
    serve: Callable[..., Server], answer: Answer
) -> None:
    """Torn, of something else, or an error of the server's: asked again, never taken for a yes."""
    client = serve(answer).client()
    with pytest.raises(Unreachable) as caught:
        client.report_queue(REPORT)
    assert str(caught.value).endswith((".", "later"))


@pytest.mark.parametrize(
    "answer", [say(b"", 302, (("Location", "/"),)), say(b"", 304), say(b"x", 500)]
)
def test_a_call_without_an_answers_body_wants_a_yes_too(
    serve: Callable[..., Server], answer: Answer
) -> None:
    """A result counts as reported when the control plane said so, not when anything came."""
    with pytest.raises(Unreachable, match="answered"):
        serve(answer).client().report_switchover(DONE)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (say(b'{"detail": "node-a is struck off."}', 403), "node-a is struck off."),
        (say(b"<html>", 404), "The control plane answered 404."),
        (say(b'{"detail"', 400), "The control plane answered 400."),
        (say(b"[1]", 409), "The control plane answered 409."),
    ],
)
def test_a_refusal_is_told_in_the_control_planes_words(
    serve: Callable[..., Server], answer: Answer, sentence: str
) -> None:
    """Or with its number, where there are none."""
    with pytest.raises(Refused) as caught:
        serve(answer).client().report_queue(REPORT)
    assert str(caught.value) == sentence


def test_a_control_plane_that_hangs_costs_a_call_its_limit(
    serve: Callable[..., Server],
) -> None:
    """The connection stands, no answer comes: unknown, in time."""
    release = threading.Event()
    server = serve(lambda _request: release.wait(60) and None)
    client = server.client()
    try:
        with pytest.raises(Unreachable, match="does not answer"):
            client.report_switchover(DONE)
    finally:
        release.set()


@pytest.mark.parametrize("is_other_name", [True, False])
def test_a_stranger_hears_no_token(serve: Callable[..., Server], is_other_name: bool) -> None:
    """Neither a certificate of another CA nor one of another name gets as much as a request."""
    if is_other_name:
        server = serve(say(GOOD), "somebody.else")
        client = server.client()
    else:
        server = serve(say(GOOD))
        client = server.client(make_pair(TLS_SERVER_NAME)[0])
    with pytest.raises(Unreachable, match="does not answer"):
        client.report_queue(REPORT)
    assert server.heard == []


def fingerprint(pem: str) -> str:
    """Return what an enrolment token says of the CA."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def test_the_ca_is_the_one_of_the_token(serve: Callable[..., Server]) -> None:
    """Whoever stands between host and control plane has another certificate."""
    server = serve(say(b""))
    server.answer = say(server.ca_pem.encode())
    assert fetch_ca(server.url, fingerprint(server.ca_pem)) == server.ca_pem
    with pytest.raises(Refused, match="does not match the enrolment token"):
        fetch_ca(server.url, fingerprint(make_pair()[0]))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (say(b"no certificate"), Refused),
        (say(b""), Refused),
        (say(b"\xff" * 100), Refused),
        (say(b"no", 404), Unreachable),
        (say(b"torn", headers=(("Content-Encoding", "gzip"),)), Unreachable),
        (hang_up, Unreachable),
    ],
)
def test_what_is_no_ca_is_told(
    serve: Callable[..., Server], answer: Answer, kind: type[AgentError]
) -> None:
    """One sentence, whatever listens at that address."""
    with pytest.raises(kind) as caught:
        fetch_ca(serve(answer).url, "0" * 64)
    assert str(caught.value).startswith("The control plane d")


class Host:
    """A host that is not enrolled, and `relay-agent` on it."""

    def __init__(
        self, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.state = state
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("RELAY_AGENT_STATE_DIRECTORY", str(state))
        monkeypatch.setattr(cli, "configure_log", lambda: None)  # it outlives the captured output

    def enrol(self, url: str, token: str, node: str = "node-a") -> str:
        """Run `relay-agent enrol`, which must fail; return what it said."""
        words = ["relay-agent", "enrol", "--url", url, "--token", token, "--node", node]
        self._monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        return self._capsys.readouterr().err


@pytest.fixture
def host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Host:
    """Give a fresh host."""
    return Host(tmp_path / "state", monkeypatch, capsys)


def test_a_one_time_token_never_goes_out_in_clear(serve: Callable[..., Server], host: Host) -> None:
    """Without TLS anybody on the way could enrol a host of theirs with it."""
    server = serve(say(b""), "")
    server.answer = say(server.ca_pem.encode())
    said = host.enrol(server.url, f"secret.{fingerprint(server.ca_pem)}")
    assert said == "relay-agent: The control plane's address begins with https://.\n"
    assert server.heard == []


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "https://", "https://[::1", "https://a:99999", "ftp://a", "https://a\x00b"],
)
def test_an_address_that_is_none_is_one_sentence(host: Host, url: str) -> None:
    """No traceback, and no key is made for it."""
    said = host.enrol(url, f"secret.{'0' * 64}")
    assert said.startswith("relay-agent: ")
    assert len(said.splitlines()) == 1
    assert not host.state.exists()


@pytest.mark.parametrize(
    ("token", "node", "sentence"),
    [
        ("half", "node-a", "The token is not whole: it has no certificate fingerprint."),
        ("secret.{}", "Node A", "'Node A' is not a node name."),
        ("secret.{}", "../x", "'../x' is not a node name."),
    ],
)
def test_a_wrong_word_enrols_nobody(
    serve: Callable[..., Server], host: Host, token: str, node: str, sentence: str
) -> None:
    """One sentence each; the token has been sent to nobody."""
    server = serve(say(b""))
    server.answer = say(server.ca_pem.encode())
    said = host.enrol(server.url, token.format(fingerprint(server.ca_pem)), node)
    assert said == f"relay-agent: {sentence}\n"
    assert all(b"secret" not in body for _path, _token, body in server.heard)
    assert not (host.state / "node").exists()
