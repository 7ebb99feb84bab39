"""What needs an administrator's attention: one table of rules, each with the next step to take.

Theory of operation. A rule looks at a `Situation` and says for what it holds, nothing else: it
reads no clock and asks nobody. The table drives the overview, `GET /api/v1/attention`, `relayctl
status`, the metric `relay_attention` and the reference. Rules are independent; what is worst
stands first. A rule about the present looks only at nodes whose report is fresh: of a silent
node nothing but its silence is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controlplane.core import attention_finders as finders
from controlplane.core.attention_finders import Finding, Values
from controlplane.core.situation import Situation


class Severity(StrEnum):
    """How soon somebody should look; mail is in danger, may come to be, or is not concerned."""

    BAD = "bad"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True)
class AttentionRule:
    """One row: what is wrong, what to do about it, and on which page of the GUI."""

    name: str
    severity: Severity
    message: str
    step: str
    page: str
    find: Callable[[Situation], Iterator[Finding]]


@dataclass(frozen=True)
class Attention:
    """One thing that needs attention now; the message is a pattern for `values`."""

    rule: str
    severity: Severity
    message: str
    step: str
    page: str
    values: Values
    since_s: float | None

    @property
    def text(self) -> str:
        """The message in English, its values filled in."""
        return self.message % self.values


def find_attention(situation: Situation) -> tuple[Attention, ...]:
    """Return everything that needs attention, the worst first, else in the order of the table."""
    found = [
        Attention(
            rule.name, rule.severity, rule.message, rule.step, rule.page, one.values, one.since_s
        )
        for rule in RULES
        for one in rule.find(situation)
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda one: order.index(one.severity)))


RULES: Final = (
    AttentionRule(
        "vip-twice",
        Severity.BAD,
        "%(vip)s is on several nodes at the same time: %(nodes)s.",
        "See which of them the network reaches, and stop keepalived on the others.",
        "/nodes",
        finders.vip_twice,
    ),
    AttentionRule(
        "vip-nowhere",
        Severity.BAD,
        "No node reports that it holds %(vip)s: as far as is known no mail is accepted there.",
        "Look at the nodes: does keepalived run, does the network carry VRRP, is one silent?",
        "/nodes",
        finders.vip_nowhere,
    ),
    AttentionRule(
        "recovering",
        Severity.BAD,
        "Restored from a backup: no lease is granted until these have reported: %(nodes)s.",
        "Start these nodes, or strike off one that is gone for good.",
        "/nodes",
        finders.recovering,
    ),
    AttentionRule(
        "older-database",
        Severity.BAD,
        "This database is older than the cluster: %(node)s has seen generation %(seen)s, "
        "it knows %(known)s.",
        "Run `relay-controlplane restore --adopt-database` on the control plane's host.",
        "/events",
        finders.older_database,
    ),
    AttentionRule(
        "postfix-down",
        Severity.BAD,
        "Postfix does not run on %(node)s.",
        "Look at the node's journal: `journalctl -u postfix`.",
        "/nodes",
        finders.postfix_down,
    ),
    AttentionRule(
        "silent",
        Severity.BAD,
        "%(node)s has stopped reporting.",
        "See whether the host is up and reaches the control plane; `relay-agent status` there "
        "tells more.",
        "/nodes",
        finders.silent,
    ),
    AttentionRule(
        "fenced",
        Severity.BAD,
        "%(node)s has not proved its lease: its old mail is set aside and waits.",
        "It takes its mail back by itself; if it does not, ask it why: `relay-agent explain`.",
        "/events",
        finders.fenced,
    ),
    AttentionRule(
        "lease-lost",
        Severity.BAD,
        "Nobody holds the lease of %(node)s's queue, and no peer has adopted it: its mail waits.",
        "Bring the node back, or let a peer adopt its queue.",
        "/nodes",
        finders.lease_lost,
    ),
    AttentionRule(
        "config-refused",
        Severity.BAD,
        "%(node)s refused configuration %(version)s: %(error)s",
        "Correct it and apply again, or roll back; the node keeps the one before.",
        "/configuration",
        finders.config_refused,
    ),
    AttentionRule(
        "copy-missing",
        Severity.BAD,
        "%(node)s is active and has pushed its queue to nobody: there is no copy of its mail.",
        "See the events of the last push, and whether SSH between the nodes works.",
        "/events",
        finders.copy_missing,
    ),
    AttentionRule(
        "copy-old",
        Severity.BAD,
        "The newest copy of %(node)s's queue, on %(peer)s, is old.",
        "See the events of the last push, and whether SSH between the nodes works.",
        "/events",
        finders.copy_old,
    ),
    AttentionRule(
        "events-dropped",
        Severity.BAD,
        "%(node)s has lost events within the last day: too many waited for the control plane.",
        "What it knew of that time is in the node's journal: `journalctl -u relay-agent`.",
        "/events",
        finders.happened("events-dropped"),
    ),
    AttentionRule(
        "mirror-broken",
        Severity.BAD,
        "A mirror on %(node)s could not be read within the last day: nothing of it is adopted.",
        "The next complete push replaces it; see the event for the reason.",
        "/events",
        finders.happened("mirror-broken"),
    ),
    AttentionRule(
        "fence-failed",
        Severity.BAD,
        "%(node)s could not set its queue aside within the last day: Postfix stood still.",
        "See the event for the reason; mostly the disk is full or broken.",
        "/events",
        finders.happened("fence-failed"),
    ),
    AttentionRule(
        "disk-nearly-full",
        Severity.BAD,
        "The disk of the queue on %(node)s is nearly full: %(percent)s percent are free.",
        "Make room there before Postfix refuses mail; `df -h` and `df -i` say of what.",
        "/system",
        finders.disk_nearly_full,
    ),
    AttentionRule(
        "clock-far-off",
        Severity.BAD,
        "The clock of %(node)s is %(seconds)s seconds off; at 300 its reports are refused.",
        "Let the host follow a time server, then see `timedatectl` there.",
        "/system",
        finders.clock_far_off,
    ),
    AttentionRule(
        "certificate-ended",
        Severity.BAD,
        "The certificate has expired: mail servers and browsers may refuse to connect.",
        "Upload a new certificate.",
        "/tls",
        finders.certificate_ended,
    ),
    AttentionRule(
        "certificate-ends-now",
        Severity.BAD,
        "The certificate expires in %(days)s days.",
        "Upload a new certificate.",
        "/tls",
        finders.certificate_ends_now,
    ),
    AttentionRule(
        "first-password",
        Severity.BAD,
        "The first administrator still has the first password.",
        "Log in as admin and set a password, or disable the user.",
        "/users",
        finders.first_password,
    ),
    AttentionRule(
        "disk-filling",
        Severity.WARN,
        "The disk of the queue on %(node)s fills: %(percent)s percent are free.",
        "See what fills it: `df -h` and `df -i` on the host.",
        "/system",
        finders.disk_filling,
    ),
    AttentionRule(
        "clock-off",
        Severity.WARN,
        "The clock of %(node)s is %(seconds)s seconds off: logs of several nodes are hard to read.",
        "Let the host follow a time server, then see `timedatectl` there.",
        "/system",
        finders.clock_off,
    ),
    AttentionRule(
        "queue-growing",
        Severity.WARN,
        "The queue on %(node)s has grown from %(before)s to %(now)s within half an hour.",
        "See in the queue which next hop does not take mail, and why.",
        "/queue",
        finders.queue_growing,
    ),
    AttentionRule(
        "quarantined",
        Severity.WARN,
        "The quarantine on %(node)s is not empty: damaged or half copied files, %(messages)s.",
        "Look at them on the node before you delete anything; the manual says how.",
        "/manuals/howto/look-at-mail-set-aside.md",
        finders.quarantined,
    ),
    AttentionRule(
        "pending",
        Severity.WARN,
        "On %(node)s messages are set aside though its lease is proved: %(messages)s.",
        "It takes them back by itself; if it does not, ask it why: `relay-agent explain`.",
        "/queue",
        finders.pending,
    ),
    AttentionRule(
        "certificate-ends-soon",
        Severity.WARN,
        "The certificate expires in %(days)s days.",
        "Upload a new certificate.",
        "/tls",
        finders.certificate_ends_soon,
    ),
    AttentionRule(
        "never-reported",
        Severity.WARN,
        "%(node)s is enrolled and has never reported.",
        "Start its agent: `systemctl start relay-agent`.",
        "/nodes",
        finders.never_reported,
    ),
    AttentionRule(
        "slow-freezer",
        Severity.WARN,
        "%(node)s can only stop and start Postfix for a push: open sessions break each time.",
        "Run Postfix in a control group of its own, as its systemd unit does.",
        "/nodes",
        finders.slow_freezer,
    ),
    AttentionRule(
        "freezer-failed",
        Severity.WARN,
        "Within the last day Postfix on %(node)s could not be frozen and was stopped instead.",
        "See the event for the reason.",
        "/events",
        finders.happened("freezer-failed"),
    ),
    AttentionRule(
        "policy-problem",
        Severity.WARN,
        "The policy hook of %(node)s has a problem: %(problem)s",
        "Correct what it names; until then the node decides by what it can use.",
        "/policy",
        finders.policy_problem,
    ),
    AttentionRule(
        "rotation-needs-peer",
        Severity.WARN,
        "The new SSH key of %(node)s waits for %(peer)s, which is silent; the old one is in use.",
        "Bring that peer back, or revoke its key if it is gone for good; or keep the old SSH key.",
        "/ssh",
        finders.rotation_needs_peer,
    ),
    AttentionRule(
        "rotation-waits",
        Severity.WARN,
        "%(node)s still uses the SSH key that it shall replace: %(reason)s",
        "Test the way to that peer from this node; or keep the old SSH key.",
        "/ssh",
        finders.rotation_waits,
    ),
    AttentionRule(
        "no-standby",
        Severity.WARN,
        "%(node)s is the only node: when it fails, no other answers.",
        "Add a second node.",
        "/nodes",
        finders.no_standby,
    ),
    AttentionRule(
        "no-nodes",
        Severity.INFO,
        "There is no node yet.",
        "Add the first node.",
        "/nodes",
        finders.no_nodes,
    ),
    AttentionRule(
        "not-enrolled",
        Severity.INFO,
        "%(node)s has not been enrolled, or its key was revoked.",
        "Issue an enrolment token and run `relay-agent enrol` on the host.",
        "/nodes",
        finders.not_enrolled,
    ),
    AttentionRule(
        "never-applied",
        Severity.INFO,
        "%(node)s has no configuration of ours yet.",
        "Apply the configuration.",
        "/configuration",
        finders.never_applied,
    ),
    AttentionRule(
        "config-behind",
        Severity.INFO,
        "%(node)s does not run configuration %(version)s yet.",
        "Wait a few seconds; if it stays so, see the node's events.",
        "/configuration",
        finders.config_behind,
    ),
    AttentionRule(
        "versions-differ",
        Severity.INFO,
        "The nodes run different versions of the agent: %(versions)s.",
        "Bring all nodes to the same version.",
        "/nodes",
        finders.versions_differ,
    ),
    AttentionRule(
        "maintenance",
        Severity.INFO,
        "%(node)s is in maintenance: it takes no VIP.",
        "End the maintenance when the work is done.",
        "/nodes",
        finders.maintenance,
    ),
    AttentionRule(
        "retired",
        Severity.INFO,
        "On %(node)s lies mail that a peer has adopted, %(messages)s; it is removed with time.",
        "Nothing needs to be done.",
        "/queue",
        finders.retired,
    ),
)
