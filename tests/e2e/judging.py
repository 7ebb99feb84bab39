"""What the tests of the policy hook share: a pair whose mail is judged, clients of both doors."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Final

from lab.layout import COMMANDS, HOSTS, NODES, VIP
from lab.provision import ControlPlane
from tests.e2e.accounting import JOURNAL
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import reported

SENDER = "sender@allowed-domain.tld"
RECIPIENT = "somebody@example.com"
POLICY = "mail-security"
LISTS = ("blocklist", "allowlist", "badwords", "rates", "subscriptions", "categories")
AS_EVER: Final = {
    "privacy": "redacted",
    "decision_timeout_s": 10.0,
    "http": {"is_enabled": False},
}


def speak(
    lab: Lab, *more: str, sender: str = SENDER, to: str = RECIPIENT, host: str = "client"
) -> str:
    """Send one mail with swaks through the VIP and give the dialogue, however it ends.

    Of the hosts "client" is in a trusted network, "sink" is a stranger.
    """
    words = ("--server", VIP, "--from", sender, "--to", to, *more)
    return lab.execute(host, "sh", "-c", 'swaks "$@" 2>&1; true', "swaks", *words)


def is_taken(said: str) -> bool:
    """Tell whether the mail was accepted."""
    return "queued as" in said


def apply(lab: Lab, reason: str) -> None:
    """Apply the configuration and wait until both nodes have it."""
    api = lab.api()
    version = api.call("POST", "config/apply", {"reason": reason})["number"]
    for node in NODES:
        until(
            lambda node=node: reported(lab.api(), node)["config_version"] == version,
            f"{node} has version {version}",
            60,
        )


def wait_for_policy(lab: Lab) -> None:
    """Wait until every node has the newest policy in force."""
    api = lab.api()

    def has_come() -> bool:
        said = api.call("GET", f"{POLICY}/nodes")
        return all(node["is_current"] for node in said["nodes"])

    until(has_come, "the policy is in force on both nodes", 60)


def delivered(identity: str) -> list[dict[str, Any]]:
    """Give what the destination wrote down of a mail."""
    if not JOURNAL.exists():
        return []
    lines = (json.loads(line) for line in JOURNAL.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["id"] == identity]


def forget_lists(api: ControlPlane) -> None:
    """Delete every entry of the policy."""
    for name in LISTS:
        for item in api.call("GET", f"{POLICY}/{name}")["items"]:
            api.call("DELETE", f"{POLICY}/{name}/{item['id']}")


def begin_judging(lab: Lab) -> None:
    """Have an empty policy in force on both nodes, whatever a test before left."""
    api = lab.api()
    forget_lists(api)
    api.call("PATCH", f"{POLICY}/settings", {"is_active": True, **AS_EVER})
    wanted = {"policy": True, "default_action": "tempfail"}
    if not wanted.items() <= api.call("GET", "cluster")["settings"]["milters"].items():
        api.call("PATCH", "cluster", {"milters": wanted})
        apply(lab, "ask the policy hook")
    wait_for_policy(lab)


def end_judging(lab: Lab) -> None:
    """Have mail judged no more."""
    api = lab.api()
    forget_lists(api)
    api.call("PATCH", f"{POLICY}/settings", {"is_active": False, **AS_EVER})
    api.call("PATCH", "cluster", {"milters": {"policy": False, "default_action": "tempfail"}})
    apply(lab, "ask nobody")


def heard(lab: Lab, node: str) -> int:
    """Give how far a node's hook has heard what others counted."""
    script = (
        "from nodeagent.policy.courier import HookConnection\n"
        "from nodeagent.policy.places import COURIER_SOCKET\n"
        "print(HookConnection(COURIER_SOCKET, 20).call('report')['sync']['seen'])\n"
    )
    return int(lab.execute(node, str(COMMANDS / "python"), "-c", script))


def open_http(lab: Lab) -> str:
    """Open the HTTP door on all addresses, the VIP among them; give its bearer token."""
    api = lab.api()
    made = api.call("POST", f"{POLICY}/settings/http-credentials", {"kind": "bearer"})
    http = {"is_enabled": True, "address": "0.0.0.0"}
    api.call("PATCH", f"{POLICY}/settings", {"http": http})
    return str(made["secret"])


def ask_http(token: str, sender: str, contents: str | None = None) -> dict[str, Any]:
    """Ask as Stalwart does: at MAIL, or with a mail of these contents at its end."""
    client = {"ip": str(HOSTS["client"].address), "port": 1, "helo": "client", "ptr": None}
    question: dict[str, Any] = {
        "context": {"stage": "mail" if contents is None else "data", "client": client},
        "envelope": {"from": {"address": sender}, "to": [{"address": RECIPIENT}]},
    }
    if contents is not None:
        question["message"] = {"headers": [["Subject", " x"]], "contents": contents}
    status, answer = post_http(token, json.dumps(question).encode())
    assert status == HTTPStatus.OK, answer
    found: dict[str, Any] = json.loads(answer)
    return found


def post_http(token: str, body: bytes) -> tuple[int, bytes]:
    """Bring a body to the HTTP door on the VIP; give the status and the body of its answer."""
    connection = HTTPConnection(VIP, 3002, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        connection.request("POST", "/mta-hook", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
