"""The REST calls by which the node agent talks to the control plane, and the names both go by.

All are POST but where a comment says GET; all are authenticated by the node's key except `ca` and
`enrol`. Types without a module's name are those of `core.contract`.
"""

from __future__ import annotations

from typing import Final

TLS_SERVER_NAME: Final = "relay-control-plane"
"""The SNI name under which the control plane shows agents the certificate of its own CA."""
TOKEN_AUDIENCE: Final = "relay-control-plane"  # noqa: S105 - a name, no secret
"""The `aud` claim of the tokens (RFC 7519, EdDSA) that nodes sign their requests with."""

AGENT_API: Final = {
    "ca": "/api/v1/agent/ca",  # GET -> the CA's certificate, PEM; checked against the token
    "enrol": "/api/v1/agent/enrol",  # EnrolRequest -> EnrolAnswer; no authentication but the token
    "heartbeat": "/api/v1/agent/heartbeat",  # HeartbeatRequest -> HeartbeatAnswer
    "reconcile": "/api/v1/agent/reconcile",  # ReconcileRequest -> ReconcileAnswer
    "acquire": "/api/v1/agent/leases/acquire",  # LeaseRequest -> LeaseAnswer (a peer's queue)
    "grant": "/api/v1/agent/leases/grant",  # LeaseRequest(to=) -> LeaseAnswer (own queue)
    "release": "/api/v1/agent/leases/release",  # LeaseRequest -> LeaseAnswer
    "receipt": "/api/v1/agent/receipts",  # ReceiptRequest -> ReceiptAnswer; idempotent
    "receipt_state": "/api/v1/agent/receipts/state",  # ReceiptQuestion -> ReceiptAnswer
    "receipt_done": "/api/v1/agent/receipts/done",  # ReceiptQuestion -> ReceiptAnswer
    "recovery": "/api/v1/agent/recovery",  # RecoveryRequest -> 204
    "trace": "/api/v1/agent/trace",  # core.trace_wire: packed TraceBatch -> StreamAnswer
    "policy_log": "/api/v1/agent/policy/log",  # policy.log_wire: packed LogBatch -> StreamAnswer
    "config": "/api/v1/agent/config",  # GET -> ConfigBundle (the assigned version)
    "queue": "/api/v1/agent/queue",  # QueueReport -> QueueAnswer (`core.queue_contract`)
    "switchover_done": "/api/v1/agent/switchover",  # SwitchoverResult -> 204
    "route_test": "/api/v1/agent/route-tests",  # RouteTestQuestion -> RouteTestWish
    "route_test_done": "/api/v1/agent/route-tests/done",  # RouteTestResult -> 204
    "peer_test": "/api/v1/agent/peer-tests",  # `core.ssh_wire`: PeerTestQuestion -> PeerTestWish
    "peer_test_done": "/api/v1/agent/peer-tests/done",  # PeerTestReport -> 204
    "ssh_key": "/api/v1/agent/ssh-key",  # `core.ssh_wire`: GivenKeyQuestion -> GivenKey
    "policy": "/api/v1/agent/policy",  # `policy.sync_wire`: PolicySync -> PolicyAnswer
    "policy_manifest": "/api/v1/agent/policy/manifest",  # GET -> `policy.document.Manifest`
    "policy_section": "/api/v1/agent/policy/section",  # SectionQuestion -> the section, gzip
}
