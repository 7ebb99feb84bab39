"""Fills an empty control plane over its REST API, as an administrator with a script would."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import httpx2

from lab import hosts
from lab.errors import LabError
from lab.layout import CONTROL_PLANE_URL, HOSTS, MACHINE_ADDRESS, NODES, VIP
from lab.settings import Settings

_START_LIMIT_S: Final = 60.0
_REQUEST_LIMIT_S: Final = 20.0
_ENROL_LIMIT_S: Final = 60.0
_BUSY: Final = httpx2.codes.SERVICE_UNAVAILABLE
_BUSY_LIMIT_S: Final = 30.0
_POLL_S: Final = 0.1
_PRIORITIES: Final = {"node-a": 150, "node-b": 100}
_LAB_TIMINGS: Final = {
    "lease_duration_s": 8.0,
    "lease_margin_s": 1.5,
    "lease_renew_deadline_s": 2.0,
    "lease_retry_s": 0.5,
    "promise_s": 8.0,
}
_LAB_QUEUE: Final = {"minimal_backoff_s": 10, "maximal_backoff_s": 20, "queue_run_delay_s": 10}


class ControlPlane:
    """The control plane's REST API with one session."""

    def __init__(self) -> None:
        # The lab's control plane shows a certificate that it made a moment ago on a private bridge.
        self._http = httpx2.Client(
            base_url=CONTROL_PLANE_URL,
            verify=False,
            timeout=_REQUEST_LIMIT_S,
            trust_env=False,
        )

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                if self._http.get("/healthz").status_code == httpx2.codes.OK:
                    return
            except httpx2.TransportError:
                time.sleep(_POLL_S)
            if time.monotonic() > deadline:
                log = HOSTS["cp"].logs / "controlplane.log"
                raise LabError(f"The control plane does not answer; its log is {log}.")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request under /api/v1 and give the answer's JSON.

        A control plane whose database is busy (503, nothing is changed) is asked again.
        """
        deadline = time.monotonic() + _BUSY_LIMIT_S
        while (answer := self._sent(method, path, body)).status_code == _BUSY:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        if answer.is_error:
            raise LabError(f"The control plane refused {method} {path}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def _sent(self, method: str, path: str, body: Any) -> httpx2.Response:
        try:
            return self._http.request(method, f"/api/v1/{path}", json=body)
        except httpx2.TransportError as error:
            raise LabError(f"The control plane did not answer {method} {path}: {error}") from error

    def log_in(self, user: str, password: str) -> None:
        """Open a session; later calls use it."""
        opened = self.call("POST", "session", {"user": user, "password": password})
        self._use(opened["token"])

    def change_password(self, current: str, new: str) -> None:
        """Set the new password, which opens a new session."""
        body = {"current_password": current, "new_password": new}
        self._use(self.call("PUT", "session/password", body)["token"])

    def _use(self, token: str) -> None:
        self._http.headers["Authorization"] = f"Bearer {token}"


def open_session(settings: Settings) -> ControlPlane:
    """Log in to a provisioned lab."""
    plane = ControlPlane()
    plane.log_in(settings.admin_user, settings.admin_password)
    return plane


def first_login(plane: ControlPlane, settings: Settings) -> Settings:
    """Replace the documented first password by a random one; gives the settings that know it."""
    password = secrets.token_urlsafe(12)
    plane.log_in(settings.admin_user, settings.admin_password)
    plane.change_password(settings.admin_password, password)
    return settings.with_password(password)


def describe_cluster(plane: ControlPlane, settings: Settings) -> None:
    """Say what the relay pair is and which mail it takes, and apply it."""
    change = {
        "name": "lab",
        "timings": {**_LAB_TIMINGS, "push_interval_s": settings.push_interval_s},
        "vrrp": {"advert_int_s": settings.advert_interval_s},
        "queue": _LAB_QUEUE,
    }
    plane.call("PATCH", "cluster", change)
    for name in NODES:
        node = {
            "address": HOSTS[name].address,
            "vrrp_priority": _PRIORITIES[name],
            "cluster_mode": "master" if name == NODES[0] else "slave",
        }
        plane.call("PUT", f"nodes/{name}", node)
    plane.call("PUT", f"vips/{VIP}", {"virtual_router_id": 51})
    sink = {"next_hop": f"[{HOSTS['sink'].address}]", "tls_mode": "may"}
    plane.call("PUT", "recipient-domains/example.com", sink)
    plane.call("PUT", "routes/@allowed-domain.tld", sink)
    plane.call("PUT", "sender-policies/allowed-domain.tld", {"action": "allowed"})
    plane.call("PUT", "sender-policies/blocked-domain.tld", {"action": "blocked"})
    for address in (HOSTS["client"].address, MACHINE_ADDRESS):
        plane.call("PUT", f"trusted-networks/{address}/32")
    plane.call("POST", "config/apply", {"reason": "the lab's first version"})


def enrol(plane: ControlPlane, name: str) -> None:
    """Give a node its one-time token, as its administrator would."""
    token = plane.call("POST", f"nodes/{name}/enrolment-token")["token"]
    command = ["relay-agent", "enrol", "--url", CONTROL_PLANE_URL, "--token", token, "--node", name]
    hosts.run_inside(HOSTS[name], command, timeout_s=_ENROL_LIMIT_S)
