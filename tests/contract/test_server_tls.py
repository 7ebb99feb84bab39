"""TLS on one port: agents by our CA whatever browsers are shown, reload without a restart."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from controlplane import tls as server_tls
from controlplane.errors import Invalid, SetupFailed
from controlplane.tls import ServerTls, ca_fingerprint, ca_pem, ensure_ca
from nodeagent.core.agent_api import TLS_SERVER_NAME
from tests.fakes.certificates import make_pair


class Listener:
    """Accepts TLS connections with one context until it is closed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            raw.settimeout(5)
            try:
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(1)
            except (ssl.SSLError, OSError):
                raw.close()

    def close(self) -> None:
        """Stop accepting."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    """Give the server's TLS with a state directory of its own."""
    return ServerTls(tmp_path)


@pytest.fixture
def port(tls: ServerTls) -> Iterator[int]:
    """Give the port of a listener that uses it."""
    listener = Listener(tls.context)
    yield listener.port
    listener.close()


def shown(port: int, name: str | None) -> x509.Certificate:
    """Return the certificate that a client is shown for a server name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's common name."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def connect_as_agent(port: int, authority: str) -> str | None:
    """Connect as agents do: our CA only, our server name, verified; return the TLS version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=TLS_SERVER_NAME) as connection,
    ):
        return connection.version()


def test_an_agent_verifies_the_server_by_our_ca(port: int, tmp_path: Path) -> None:
    """The chain and the name hold up under full verification."""
    assert connect_as_agent(port, ca_pem(tmp_path)) == "TLSv1.3"


def test_a_foreign_ca_is_not_accepted_by_an_agent(port: int, tmp_path: Path) -> None:
    """An agent that trusts another CA refuses the server."""
    with pytest.raises(ssl.SSLCertVerificationError):
        connect_as_agent(port, ca_pem(tmp_path / "another"))


def test_browsers_are_shown_the_self_signed_certificate_first(port: int) -> None:
    """With another server name or none, the certificate is not the agents'."""
    for name in ("relay.example.com", None):
        certificate = shown(port, name)
        assert certificate.issuer == certificate.subject
        assert common_name(certificate) == "localhost"


def test_a_replaced_certificate_is_shown_at_once(port: int, tls: ServerTls) -> None:
    """The next handshake has it; no restart, and agents see no difference."""
    agents_before = shown(port, TLS_SERVER_NAME)
    tls.replace_certificate(*make_pair("mail.example.com"))
    assert common_name(shown(port, "mail.example.com")) == "mail.example.com"
    assert shown(port, TLS_SERVER_NAME) == agents_before


def test_an_open_connection_survives_a_replacement(port: int, tls: ServerTls) -> None:
    """Only new handshakes get the new certificate; nobody is thrown out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw) as connection,
    ):
        tls.replace_certificate(*make_pair())
        assert connection.send(b"x") == 1


def test_going_back_to_the_self_signed_certificate(port: int, tls: ServerTls) -> None:
    """An administrator may take the uploaded certificate away again."""
    first = shown(port, None)
    tls.replace_certificate(*make_pair())
    tls.use_self_signed()
    assert shown(port, None) == first


def test_a_key_of_another_certificate_is_refused(port: int, tls: ServerTls) -> None:
    """The field at fault is named and the old certificate stays."""
    before = shown(port, None)
    with pytest.raises(Invalid) as refused:
        tls.replace_certificate(make_pair()[0], make_pair()[1])
    assert list(refused.value.fields) == ["key_pem"]
    assert shown(port, None) == before


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (make_pair(days=-1), "cert_pem"),
        (("no certificate", make_pair()[1]), "cert_pem"),
        ((make_pair()[0], "no key"), "key_pem"),
    ],
)
def test_an_unusable_certificate_is_refused(
    port: int, tls: ServerTls, pair: tuple[str, str], field: str
) -> None:
    """Expired or broken: one sentence for the field, nothing changed."""
    before = shown(port, None)
    with pytest.raises(Invalid) as refused:
        tls.replace_certificate(*pair)
    assert list(refused.value.fields) == [field]
    assert shown(port, None) == before


def test_a_second_start_keeps_ca_and_certificates(tmp_path: Path) -> None:
    """The fingerprint in tokens stays true for ever."""
    ServerTls(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    fingerprint = ca_fingerprint(tmp_path)
    ServerTls(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before
    assert ca_fingerprint(tmp_path) == fingerprint


def test_key_files_are_private(tls: ServerTls, tmp_path: Path) -> None:
    """Nobody but the owner reads a private key."""
    tls.replace_certificate(*make_pair())
    files = list((tmp_path / "tls").iterdir())
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700


def test_certificates_about_to_end_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own leaves are renewed under the same CA while the server runs."""
    monkeypatch.setattr(server_tls, "LEAF_DAYS", 5)
    tls = ServerTls(tmp_path)
    monkeypatch.undo()
    listener = Listener(tls.context)
    before = shown(listener.port, TLS_SERVER_NAME)
    tls.renew_own()
    after = shown(listener.port, TLS_SERVER_NAME)
    listener.close()
    assert after.not_valid_after_utc > before.not_valid_after_utc
    after.verify_directly_issued_by(ensure_ca(tmp_path).certificate)


def test_the_ca_can_sign_leaves_only(tmp_path: Path) -> None:
    """It is a CA of path length 0, and the leaf is none."""
    ServerTls(tmp_path)
    authority = ensure_ca(tmp_path).certificate.extensions
    assert authority.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    leaf = x509.load_pem_x509_certificate((tmp_path / "tls/agents.pem").read_bytes())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_damaged_ca_file_is_one_sentence(tmp_path: Path) -> None:
    """A broken file stops the start and names itself; no new CA is made behind our back."""
    ensure_ca(tmp_path)
    (tmp_path / "tls/ca.pem").write_text("damaged")
    with pytest.raises(SetupFailed, match=r"tls/ca\.pem"):
        ensure_ca(tmp_path)
