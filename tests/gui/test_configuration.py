"""The configuration pages: look, apply, follow each node, roll back; the state out and in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from sqlalchemy import text

from controlplane.api.nodes import NodeStatus, NodeView
from controlplane.core.permissions import UserRole
from controlplane.core.spec import NodeSpec
from controlplane.gui.configuration import node_progress
from controlplane.gui.diffs import DiffLine, diff_lines
from controlplane.store.engine import Database
from nodeagent.core.contract import NodeReport, Role
from tests.fakes.reports import store_report
from tests.gui.conftest import HOSTILE, HTMX, OWN_PAGE, open_as, post, token_of

SECRET = "correct-horse-battery"


def _report(database: Database, node: str, **values: Any) -> None:
    with database.write() as session:
        store_report(session, node, NodeReport(role=Role.STANDBY, **values))


def _revision(page: str) -> str:
    return page.partition('name="revision" value="')[2].partition('"')[0]


def _apply(watched: TestClient, reason: str = "first") -> Any:
    page = watched.get("/configuration/diff").text
    return post(watched, "/configuration/apply", reason=reason, revision=_revision(page))


def test_what_waits_is_shown_as_a_diff_and_applied(watched: TestClient) -> None:
    """Added and removed lines carry a sign and a word, not a colour alone; secrets are hidden."""
    route = {"next_hop": "mx.tld", "username": "u", "password": SECRET}
    watched.put("/api/v1/routes/@c.tld", json=route)
    assert "reach the nodes with the next apply" in watched.get("/configuration").text
    assert _apply(watched).headers["location"] == "/configuration"
    assert "Nothing waits to be applied." in watched.get("/configuration").text
    watched.patch("/api/v1/cluster", json={"message_size_limit_bytes": 1_000_000})
    watched.put("/api/v1/routes/@c.tld", json={**route, "password": "another-one"})
    page = watched.get("/configuration/diff").text
    assert '<span class="visually-hidden">added</span></td>' in page
    assert "<code>message_size_limit = 1000000</code>" in page
    assert "<code>message_size_limit = 52428800</code>" in page
    assert "secret: values hidden" in page
    assert SECRET not in page
    assert "another-one" not in page
    assert page.index(">node-a<") < page.index(">node-b<")


def test_a_version_has_its_author_time_and_reason(watched: TestClient) -> None:
    """Whatever was typed as a reason stays text, in every place that shows it."""
    _apply(watched, HOSTILE)
    for path in ("/configuration", "/configuration/versions/1"):
        page = watched.get(path).text
        assert "<script>alert" not in page
        assert escape(HOSTILE) in page
        assert ">admin<" in page
    assert "/etc/postfix/main.cf" in watched.get("/configuration/versions/1").text


def test_a_reason_that_cannot_be_kept_is_refused_beside_its_field(watched: TestClient) -> None:
    """What was typed stays; no version is made."""
    page = watched.get("/configuration/diff").text
    wrong = "x" * 501
    answer = post(watched, "/configuration/apply", reason=wrong, revision=_revision(page))
    assert answer.status_code == 422
    assert 'id="f-reason-error"' in answer.text
    assert wrong in answer.text
    assert watched.get("/api/v1/config/versions").json() == []


def test_settings_that_changed_since_they_were_looked_at_are_not_applied(
    watched: TestClient,
) -> None:
    """The page shows the new difference, and the reason that was typed."""
    page = watched.get("/configuration/diff").text
    watched.put("/api/v1/recipient-domains/z.tld", json={})
    answer = post(watched, "/configuration/apply", reason="why not", revision=_revision(page))
    assert answer.status_code == 409
    assert "look at the diff again" in answer.text
    assert "z.tld" in answer.text
    assert "why not" in answer.text


def test_each_node_says_how_far_it_is(watched: TestClient, sqlite_database: Database) -> None:
    """Sent, live, refused with its sentence, silent: each by words; nothing is made up."""
    assert "nothing assigned" in watched.get("/configuration").text
    _apply(watched)
    assert "never reported" in watched.get("/configuration").text
    _report(sqlite_database, "node-a", config_version=None)
    refused = {"config_failed_version": 1, "config_error": HOSTILE}
    _report(sqlite_database, "node-b", config_version=None, **refused)
    page = watched.get("/configuration").text
    assert "sent, the node has not taken it over yet" in page
    assert "refused by the node" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    _report(sqlite_database, "node-a", config_version=1)
    assert "checked by the node and live" in watched.get("/configuration").text
    with sqlite_database.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 90"))
    page = watched.get("/configuration").text
    assert "checked by the node and live" not in page
    assert "last report" in page


@pytest.mark.parametrize(
    ("assigned", "report", "state"),
    [
        (None, None, "none"),
        (1, None, "unknown"),
        (2, {"config_version": 1}, "sent"),
        (2, {"config_version": 2}, "live"),
        (2, {"config_version": 1, "config_failed_version": 2, "config_error": "no"}, "refused"),
        (3, {"config_version": 1, "config_failed_version": 2, "config_error": "no"}, "sent"),
        (2, {"config_version": 2, "config_failed_version": 2, "config_error": "no"}, "live"),
    ],
)
def test_progress_is_worked_out_from_the_report(
    assigned: int | None, report: dict[str, Any] | None, state: str
) -> None:
    """An old refusal says nothing about a newer version."""
    status = NodeStatus(
        is_enrolled=True,
        enrolled_at=None,
        is_revoked=False,
        is_struck_off=False,
        token_expires_at=None,
        assigned_version=assigned,
        last_seen_s=None if report is None else 1.0,
        report=None if report is None else NodeReport(role=Role.STANDBY, **report),
    )
    view = NodeView(node=NodeSpec(name="node-a", address="198.51.100.11"), status=status)
    progress = node_progress(view, now_s=1000.0, limit_s=15.0)
    assert progress.state == state
    assert (progress.error is not None) == (state == "refused")


def test_an_old_version_is_rolled_back_to(watched: TestClient) -> None:
    """A new version with the old files; the settings stay and wait."""
    _apply(watched)
    watched.patch("/api/v1/cluster", json={"message_size_limit_bytes": 1_000_000})
    _apply(watched, "smaller")
    assert "From version 1 to 2" in watched.get("/configuration/diff?from=1&to=2").text
    assert "message_size_limit = 1000000" in watched.get("/configuration/diff?from=1&to=2").text
    wrong = post(watched, "/configuration/versions/1/rollback", reason="x" * 501)
    assert (wrong.status_code, "f-reason-error" in wrong.text) == (422, True)
    assert (
        post(watched, "/configuration/versions/1/rollback", reason="too small").status_code == 303
    )
    page = watched.get("/configuration").text
    assert "Version 3 has the files of version 1; the settings are unchanged." in page
    assert "from 1" in page
    assert "too small" in page
    assert "message_size_limit = 1000000" in watched.get("/configuration/diff").text
    assert post(watched, "/configuration/versions/9/rollback", reason="").status_code == 404


def test_settings_with_problems_cannot_be_applied(watched: TestClient) -> None:
    """The problems are named, and there is no button."""
    watched.delete("/api/v1/nodes/node-a")
    watched.delete("/api/v1/nodes/node-b")
    watched.delete("/api/v1/vips/198.51.100.100")
    page = watched.get("/configuration/diff").text
    assert "/configuration/apply" not in page
    answer = post(watched, "/configuration/apply", reason="", revision="")
    assert answer.status_code == 409
    assert "There is no node yet" in answer.text


def test_read_only_looks_and_is_refused(watched: TestClient, sqlite_database: Database) -> None:
    """No button, no form, and each change is refused; an Operator imports no state."""
    _apply(watched)
    watched.patch("/api/v1/cluster", json={"message_size_limit_bytes": 1_000_000})
    reader = open_as(watched, sqlite_database, UserRole.READ_ONLY)
    for path in ("", "/diff", "/versions/1"):
        page = reader.get(f"/configuration{path}")
        assert page.status_code == 200
        assert 'method="post"' not in page.text.partition("<main")[2]
        assert "/configuration/import" not in page.text
    for path in ("apply", "versions/1/rollback", "import", "import/preview"):
        assert post(reader, f"/configuration/{path}", csv="{}").status_code == 403
    assert reader.get("/configuration/export").status_code == 200


def test_an_operator_applies_but_imports_no_state(
    watched: TestClient, sqlite_database: Database
) -> None:
    """The whole state is an Admin's."""
    operator = open_as(watched, sqlite_database, UserRole.OPERATOR)
    assert _apply(operator).status_code == 303
    assert operator.get("/configuration/import").status_code == 403
    assert post(operator, "/configuration/import", csv="{}").status_code == 403


def test_the_state_goes_out_and_comes_in(watched: TestClient) -> None:
    """The preview shows settings, lists and files; then it is imported, all of it."""
    route = {"next_hop": "mx.tld", "username": "u", "password": SECRET}
    watched.put("/api/v1/routes/@c.tld", json=route)
    exported = watched.get("/configuration/export")
    assert exported.headers["content-disposition"] == (
        'attachment; filename="mail-relay-state.json"'
    )
    assert SECRET not in exported.text
    watched.put("/api/v1/recipient-domains/z.tld", json={})
    watched.patch("/api/v1/cluster", json={"message_size_limit_bytes": 1_000_000})
    data = {"csrf_token": token_of(watched), "csv": exported.text}
    shown = watched.post("/configuration/import/preview", data=data, headers=HTMX).text
    for words in ("message_size_limit_bytes", "1000000", "z.tld", "/etc/postfix/main.cf"):
        assert words in shown
    sent = {"csv": exported.text, "revision": _revision(shown)}
    assert post(watched, "/configuration/import", **sent).status_code == 303
    assert watched.get("/api/v1/recipient-domains").json()["total"] == 0
    assert watched.get("/api/v1/routes/@c.tld").json()["has_password"] is True


def test_the_policy_is_a_part_of_the_state(watched: TestClient) -> None:
    """The page says what is personal; the preview names what changes and what stays."""
    mail = "/api/v1/mail-security"
    news, reader = "news@lists.example.com", "reader@example.net"
    watched.post(f"{mail}/categories", json={"address": news})
    watched.put(f"{mail}/categories/{news}/subscriptions/{reader}")
    page = watched.get("/configuration").text
    assert "Subscriptions of categories are personal data" in page
    assert "more than 10,000 entries is not in it" in page
    assert reader in watched.get("/configuration/export").text
    exported = watched.get("/configuration/export?subscriptions=false").text
    assert reader not in exported
    watched.post(f"{mail}/badwords", json={"pattern": HOSTILE})
    data = {"csrf_token": token_of(watched), "csv": exported}
    shown = watched.post("/configuration/import/preview", data=data, headers=HTMX).text
    assert "Not in the file, so it stays as it is: policy.subscriptions" in shown
    assert str(escape(HOSTILE)) in shown
    assert "<script>" not in shown
    found = re.search(r'name="policy_edits" value="(\d+)"', shown)
    assert found is not None
    sent = {"csv": exported, "revision": _revision(shown), "policy_edits": found[1]}
    watched.post(f"{mail}/badwords", json={"pattern": "casino"})
    refused = post(watched, "/configuration/import", **sent)
    assert refused.status_code == 409
    assert "The mail policy was changed since you looked" in refused.text
    assert watched.get(f"{mail}/badwords").json()["total"] == 2
    del sent["policy_edits"]
    assert post(watched, "/configuration/import", **sent).status_code == 303
    assert watched.get(f"{mail}/badwords").json()["total"] == 0
    assert watched.get(f"{mail}/subscriptions").json()["total"] == 1


def test_channels_of_alerts_come_without_their_urls(watched: TestClient) -> None:
    """Everybody may export: no URL is in it, and the preview says whose is missing."""
    alerts = "/api/v1/alerts"
    watched.put(f"{alerts}/channels/on-call", json={"url": f"jsons://u:{SECRET}@hook.test/x"})
    exported = watched.get("/configuration/export").text
    assert "on-call" in exported
    assert SECRET not in exported
    assert "hook.test" not in exported
    assert watched.delete(f"{alerts}/channels/on-call").status_code == 204
    watched.headers["Accept-Language"] = "de"
    data = {"csrf_token": token_of(watched), "csv": exported}
    shown = watched.post("/configuration/import/preview", data=data, headers=HTMX).text
    assert "Der Kanal on-call hat hier keine URL" in shown
    found = re.search(r'name="alerts_digest" value="(\w+)"', shown)
    assert found is not None
    sent = {"csv": exported, "revision": _revision(shown), "alerts_digest": found[1]}
    watched.put(f"{alerts}/rules/threats", json={"threshold": 7})
    refused = post(watched, "/configuration/import", **sent)
    assert refused.status_code == 409
    assert "Die Benachrichtigungen wurden geändert" in refused.text
    assert watched.get(f"{alerts}/channels").json() == []
    del sent["alerts_digest"]
    assert post(watched, "/configuration/import", **sent).status_code == 303
    (channel,) = watched.get(f"{alerts}/channels").json()
    assert (channel["has_url"], channel["is_enabled"]) == (False, False)
    assert "noch keine URL" in watched.get("/alerts").text
    page = "/alerts/channels/on-call"
    for path, fields in ((page, {"is_enabled": "on"}), (f"{page}/test", {})):
        told = post(watched, path, **fields)
        assert told.status_code in {409, 422}
        assert "Dieser Kanal hat noch keine URL" in told.text
    url = {"url": "jsons://hook.test/x", "is_enabled": "on"}
    assert post(watched, page, **url).status_code == 303
    (channel,) = watched.get(f"{alerts}/channels").json()
    assert (channel["has_url"], channel["is_enabled"]) == (True, True)


@pytest.mark.parametrize(
    "typed", ["", "{", "[]", "{}", '{"format": "x"}', f'{{"{HOSTILE[:8]}": 1}}']
)
def test_what_is_no_state_is_refused_and_kept(watched: TestClient, typed: str) -> None:
    """One sentence, what is at fault, and what was typed."""
    answer = post(watched, "/configuration/import", csv=typed)
    assert answer.status_code == 422
    assert "This is no file of a state; nothing was changed." in answer.text
    assert escape(typed) in answer.text or not typed
    assert "<script>" not in answer.text


def test_the_problems_of_a_state_are_named(watched: TestClient) -> None:
    """In the preview and when it is sent all the same."""
    state = json.loads(watched.get("/configuration/export").text)
    state["lists"]["trusted_networks"] = [HOSTILE]
    typed = json.dumps(state)
    data = {"csrf_token": token_of(watched), "csv": typed}
    shown = watched.post("/configuration/import/preview", data=data, headers=HTMX).text
    assert "The file has problems and cannot be imported." in shown
    assert "is not a network" in shown
    assert "Replace everything" not in shown
    refused = post(watched, "/configuration/import", csv=typed)
    assert (refused.status_code, "<script>" in shown + refused.text) == (422, False)
    assert watched.get("/api/v1/trusted-networks").json() == []


def test_a_diff_is_read_line_by_line() -> None:
    """A removed line that looks like a file's name is a removed line."""
    found = diff_lines("mode 0644 root -> 0600 root\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- y\n+z\n  w")
    assert found == (
        DiffLine("same", "mode 0644 root -> 0600 root"),
        DiffLine("place", "@@ -1 +1 @@"),
        DiffLine("remove", "-- y"),
        DiffLine("add", "z"),
        DiffLine("same", " w"),
    )


def test_the_rollout_is_sent_to_who_looks(watched: TestClient) -> None:
    """The stream belongs to a session; a stranger gets none."""
    watched.cookies.clear()
    watched.headers.pop("Authorization", None)
    headers = {**OWN_PAGE, "Accept": "text/event-stream"}
    assert watched.get("/configuration/live", headers=headers).status_code == 401
