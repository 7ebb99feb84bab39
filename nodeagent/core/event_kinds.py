"""Every kind of event that a node or the control plane reports, and what it tells the operator.

A kind is lower case, words joined by hyphens: that is what `GET /api/v1/events` filters by. Events
that say that an action failed are named after it by `actions.failure_kind`.
"""

from __future__ import annotations

from typing import Final

KIND_PATTERN: Final = r"^[a-z0-9-]+$"

HEARTBEAT_FAILED: Final = "heartbeat-failed"
EVENTS_DROPPED: Final = "events-dropped"
SSH_ROTATION_WAITS: Final = "ssh-rotation-waits"

NODE_KINDS: Final = {
    "adopted": "A receipt was committed: that many messages of a peer are this node's now.",
    "config": "A config version is live here.",
    EVENTS_DROPPED: "Over 10,000 events waited for the control plane; so many of the oldest went.",
    "fence-failed": "The own queue could not be set aside; Postfix stands still until it can.",
    "fenced": "The own queue was set aside, and why.",
    "freezer-failed": "Postfix could not be frozen; it was stopped and started instead.",
    HEARTBEAT_FAILED: "The control plane did not answer or refused; sent once it answers again.",
    "mirror-broken": "What a mirror says of itself cannot be read: nothing of it is adopted.",
    "orphaned-vip": "keepalived is dead here and a peer has the VIP too: ours was removed.",
    "push-refused": "A push to this node was refused, and why.",
    "quarantined": "A queue file was damaged or half copied, or its name was taken.",
    "receipt-narrowed": "Messages of an adoption were another node's already.",
    "reconciled": "The own lease was acquired: so many messages taken back, so many retired.",
    "retired-removed": "Retired mail was removed after `retired_keep_days`.",
    SSH_ROTATION_WAITS: "The new SSH key is not used yet: a peer does not let it in, and why.",
    "role": "The node's role has changed, or its agent has started in it.",
    "switchover": "The own queue was handed over, or the control plane noted how that ended.",
    "switchover-failed": "Nothing was handed over, and why.",
}

CONTROL_PLANE_KINDS: Final = {
    "alert-not-taken": "An alert did not get out by a channel, and why; once an hour and channel.",
    "config-applied": "A config version was assigned to the nodes.",
    "config-rolled-back": "An earlier config version was assigned again.",
    "confirmed-dead": "An operator vouched that a node is off.",
    "enrolled": "A node was enrolled.",
    "generation-below-seen": "A node has seen a generation that this database has not.",
    "key-revoked": "A node's key was revoked.",
    "lease": "A lease has another holder.",
    "node-setup": "A setup of a host over SSH has ended, and how.",
    "policy-log-gap": "Entries of a node's policy log were not kept, and why.",
    "receipt-conflict": "After a restore, a node remembers a receipt as another node's.",
    "recovered": "After a restore all nodes have reported.",
    "restored": "The database came from a backup; leases wait for all nodes.",
    "ssh-host-keys-pinned": "Somebody changed which host keys of a node its peers trust.",
    "ssh-keys": "A node shows new SSH keys.",
    "ssh-rotation-requested": "Somebody asked for a new SSH key of a node.",
    "ssh-rotated": "A node uses its new SSH key; its peers let the old one in no longer.",
    "struck-off": "A node was given up.",
    "switchover-requested": "An operator asked for a switchover.",
    "trace-gap": "Lines of a node's mail log are missing from the message trace, and why.",
}
