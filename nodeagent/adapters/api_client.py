"""The agent's calls of the control plane: HTTPS, its own CA only, each with a signed token."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ValidationError

from nodeagent.core import contract as wire
from nodeagent.core.agent_api import AGENT_API, TLS_SERVER_NAME
from nodeagent.core.brief import KnownPeers
from nodeagent.core.enrol_wire import EnrolAnswer, EnrolRequest
from nodeagent.core.queue_contract import QueueAnswer, QueueReport
from nodeagent.core.route_wire import RouteTestQuestion, RouteTestResult, RouteTestWish
from nodeagent.core.ssh_wire import (
    GivenKey,
    GivenKeyQuestion,
    PeerTestQuestion,
    PeerTestReport,
    PeerTestWish,
)
from nodeagent.core.stream_wire import PACKED_MEDIA_TYPE, StreamAnswer, pack
from nodeagent.core.trace_wire import TraceBatch
from nodeagent.errors import Refused, Unreachable

CONNECT_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 3.0
"""For calls of a job; a heartbeat has `core.lease.heartbeat_limit_s`.

Both are longer than the control plane waits for its database (`BUSY_TIMEOUT_MS` there): an agent is
told "refused" while it still listens, instead of giving up on what is carried out behind its back.
"""
LONG_TIMEOUT_S: Final = 30.0
_Answer = TypeVar("_Answer", bound=BaseModel)


def _pinned_context(ca_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    return context


def _refusal(response: httpx2.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The control plane answered {response.status_code}."


class ControlPlaneClient:
    """One client a process; safe to use from several threads.

    `Unreachable` means the outcome is unknown: the request may have been carried out.
    """

    def __init__(self, url: str, ca_pem: str, token: Callable[[], str]) -> None:
        self._token = token
        self._known_peers = KnownPeers()
        self._client = httpx2.Client(
            base_url=url,
            verify=_pinned_context(ca_pem),
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
        )

    def send(
        self, method: str, call: str, body: BaseModel | bytes | None, timeout_s: float
    ) -> httpx2.Response:
        """Make one of the calls of `AGENT_API`; raises `Refused` and `Unreachable`."""
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None
        if isinstance(body, bytes):
            headers["Content-Type"] = PACKED_MEDIA_TYPE
            content = body
        elif body is not None:
            headers["Content-Type"] = "application/json"
            content = body.model_dump_json().encode()
        request = self._client.build_request(
            method,
            AGENT_API[call],
            content=content,
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            extensions={"sni_hostname": TLS_SERVER_NAME},
        )
        try:
            response = self._client.send(request)
        except (httpx2.RequestError, ssl.SSLError) as error:
            raise Unreachable(f"The control plane does not answer ({error}).") from error
        if response.is_client_error:
            raise Refused(_refusal(response))
        if not response.is_success:
            raise Unreachable(_refusal(response))
        return response

    def ask(
        self,
        call: str,
        body: BaseModel | bytes,
        answer: type[_Answer],
        timeout_s: float = READ_TIMEOUT_S,
    ) -> _Answer:
        """Make one of the calls of `AGENT_API` and read its answer."""
        response = self.send("POST", call, body, timeout_s)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable("The control plane's answer cannot be read.") from error

    def heartbeat(self, request: wire.HeartbeatRequest, timeout_s: float) -> wire.HeartbeatAnswer:
        """Report, perhaps renew, and read the view; for one thread at a time."""
        asked = request.model_copy(update={"known_peers": self._known_peers.tag})
        answer = self.ask("heartbeat", asked, wire.HeartbeatAnswer, timeout_s)
        return self._known_peers.complete(answer)

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease and learn who owns the pending mail."""
        return self.ask("reconcile", request, wire.ReconcileAnswer, LONG_TIMEOUT_S)

    def acquire(self, queue: str) -> wire.LeaseAnswer:
        """Acquire a peer's lease."""
        return self.ask("acquire", wire.LeaseRequest(queue=queue), wire.LeaseAnswer)

    def grant(self, queue: str, generation: int, to: str) -> wire.LeaseAnswer:
        """Grant the own lease to a peer."""
        request = wire.LeaseRequest(queue=queue, generation=generation, to=to)
        return self.ask("grant", request, wire.LeaseAnswer)

    def release(self, queue: str, generation: int) -> wire.LeaseAnswer:
        """Give a lease back."""
        request = wire.LeaseRequest(queue=queue, generation=generation)
        return self.ask("release", request, wire.LeaseAnswer)

    def commit_receipt(self, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Commit a receipt; asked again it answers what became of it."""
        return self.ask("receipt", request, wire.ReceiptAnswer, LONG_TIMEOUT_S)

    def finish_receipt(self, queue: str, generation: int) -> wire.ReceiptAnswer:
        """Say that every file of a receipt is in the live queue."""
        question = wire.ReceiptQuestion(queue=queue, generation=generation)
        return self.ask("receipt_done", question, wire.ReceiptAnswer)

    def recover(self, request: wire.RecoveryRequest) -> None:
        """Tell a restored control plane what this node remembers."""
        self.send("POST", "recovery", request, LONG_TIMEOUT_S)

    def trace(self, batch: TraceBatch) -> StreamAnswer:
        """Bring entries of the message trace; repeated, they are stored once."""
        return self.ask("trace", pack(batch), StreamAnswer, LONG_TIMEOUT_S)

    def config(self) -> wire.ConfigBundle:
        """Fetch the config version that is assigned to this node."""
        response = self.send("GET", "config", None, LONG_TIMEOUT_S)
        try:
            return wire.ConfigBundle.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable("The control plane's answer cannot be read.") from error

    def route_test(self, question: RouteTestQuestion) -> RouteTestWish:
        """Fetch what a route test is to try."""
        return self.ask("route_test", question, RouteTestWish)

    def report_route_test(self, result: RouteTestResult) -> None:
        """Report how a route test went."""
        self.send("POST", "route_test_done", result, READ_TIMEOUT_S)

    def peer_test(self, question: PeerTestQuestion) -> PeerTestWish:
        """Fetch which peer is to be tested."""
        return self.ask("peer_test", question, PeerTestWish)

    def report_peer_test(self, report: PeerTestReport) -> None:
        """Report the steps of a test that are done."""
        self.send("POST", "peer_test_done", report, READ_TIMEOUT_S)

    def given_key(self, public_key: str) -> str:
        """Fetch the private half of a key that a user brought along for this node."""
        question = GivenKeyQuestion(public_key=public_key)
        return self.ask("ssh_key", question, GivenKey).private_key.get_secret_value()

    def report_queue(self, report: QueueReport) -> QueueAnswer:
        """Send one batch of the queue's list, and read what operators ask of the queue."""
        return self.ask("queue", report, QueueAnswer, LONG_TIMEOUT_S)

    def report_switchover(self, result: wire.SwitchoverResult) -> None:
        """Report how a switchover ended."""
        self.send("POST", "switchover_done", result, READ_TIMEOUT_S)


def _check_address(url: str) -> None:
    """Refuse what the one-time token must not be sent to; raises `Refused`."""
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise Refused(f"The control plane's address cannot be read: {error}") from error
    if address.scheme != "https" or not address.host:
        raise Refused("The control plane's address begins with https://.")


def fetch_ca(url: str, fingerprint: str) -> str:
    """Return the control plane's CA as PEM after checking it against the token's fingerprint.

    Nothing secret is sent: the connection is not trusted until the fingerprint matches.
    """
    _check_address(url)
    try:
        with httpx2.Client(
            base_url=url, verify=False, trust_env=False, timeout=LONG_TIMEOUT_S
        ) as client:
            response = client.get(AGENT_API["ca"], extensions={"sni_hostname": TLS_SERVER_NAME})
            response.raise_for_status()
            pem = response.text
            der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except httpx2.HTTPError as error:
        raise Unreachable(f"The control plane does not answer ({error}).") from error
    except ValueError as error:
        raise Refused("The control plane did not send a certificate.") from error
    if hashlib.sha256(der).hexdigest() != fingerprint:
        raise Refused("The control plane's certificate does not match the enrolment token.")
    return pem


def enrol(url: str, ca_pem: str, request: EnrolRequest) -> EnrolAnswer:
    """Send the one-time token and the node's public keys."""
    client = ControlPlaneClient(url, ca_pem, token=lambda: "")
    return client.ask("enrol", request, EnrolAnswer)
