"""Values that no form would send: refused in the API's one format, and nothing changes."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

JSON = {"Content-Type": "application/json"}
API = "/api/v1"
HUGE = "9" * 30
BODIES = [
    ("PATCH", "cluster", '{"timings": {"push_interval_s": 1e999}}'),
    ("PATCH", "cluster", '{"timings": {"promise_s": 1e999}}'),
    ("PATCH", "cluster", '{"timings": {"push_interval_s": NaN}}'),
    ("PATCH", "cluster", f'{{"timings": {{"retired_keep_days": {HUGE}}}}}'),
    ("PATCH", "cluster", f'{{"message_size_limit_bytes": {HUGE}}}'),
    ("PATCH", "cluster", '{"name": "\\ud800"}'),
    ("PATCH", "cluster", "[]"),
    ("PATCH", "cluster", "{"),
    ("PATCH", "cluster", ""),
    ("POST", "config/apply", '{"reason": "\\ud800"}'),
    ("POST", "config/apply", '{"reason": "two\\nlines"}'),
    ("POST", "config/apply", '{"expected_revision": 1e400}'),
    ("PUT", "vips/198.51.100.101", f'{{"virtual_router_id": 52, "prefix_len": {HUGE}}}'),
    ("PUT", "vips/%00", '{"virtual_router_id": 52}'),
    ("PUT", f"vips/{'1' * 400}", '{"virtual_router_id": 52}'),
    ("PUT", "tls/certificate", '{"cert_pem": "\\ud800", "key_pem": "x"}'),
    ("PUT", "tls/certificate", '{"cert_pem": "x", "key_pem": "\\ud800"}'),
    ("PUT", "nodes/node-c", '{"address": "198.51.100.13", "hostname": "\\ud800"}'),
    ("POST", "recipient-domains", '{"domains": ["\\ud800.com"]}'),
    ("GET", "recipient-domains?search=%ed%a0%80&limit=0", ""),
    ("GET", "audit?actor=%00", ""),
    ("GET", "audit?since=0001-01-01T00:00:00%2B14:00", ""),
    ("GET", "audit?since=9999-12-31T23:59:59-14:00", ""),
    ("GET", "events?since=0001-01-01T00:00:00%2B14:00", ""),
    ("GET", "events?since=yesterday", ""),
    ("GET", "events?since=2026-01-01T00:00:00", ""),
    ("GET", f"events?before={HUGE}", ""),
    ("GET", f"config/versions/{HUGE}", ""),
    ("PUT", "session/password", '{"current_password": "\\ud800", "new_password": "x"}'),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
def test_odd_values_are_refused_like_any_others(
    pair: TestClient, method: str, path: str, body: str
) -> None:
    """422 with a sentence and the field; the cluster is as it was."""
    before = pair.get(f"{API}/cluster").json()
    refused = pair.request(method, f"{API}/{path}", content=body, headers=JSON)
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"].endswith(".")
    assert refused.json()["fields"]
    assert pair.get(f"{API}/cluster").json() == before


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xff", b'{"domains": ["\xe4.test"]}'])
def test_a_body_that_no_parser_can_read_is_refused(pair: TestClient, body: bytes) -> None:
    """Nested without end, or no UTF-8: as any other value that cannot be used."""
    refused = pair.post(f"{API}/recipient-domains", content=body, headers=JSON)
    assert refused.status_code == 422
    assert refused.json()["detail"] == "The body cannot be read; nothing was changed."
    assert list(refused.json()["fields"]) == ["body"]


@pytest.mark.parametrize(
    "body",
    ['{"user": "\\ud800", "password": "x"}', '{"user": "a", "password": "\\ud800"}', "null"],
)
def test_odd_logins_are_refused(anonymous: TestClient, body: str) -> None:
    """A stranger gets no further with them than with a wrong password."""
    refused = anonymous.post(f"{API}/session", content=body, headers=JSON)
    assert refused.status_code in {401, 422}, refused.text
    assert refused.json()["detail"].endswith(".")


@pytest.mark.parametrize("since", ["1970-01-02T00:00:00-14:00", "9998-12-31T23:59:59Z"])
@pytest.mark.parametrize("noun", ["audit", "events"])
def test_every_time_in_reach_can_be_asked_for(pair: TestClient, noun: str, since: str) -> None:
    """From the first to the last that both databases can compare."""
    assert pair.get(f"{API}/{noun}", params={"since": since}).status_code == 200
