"""The pages of the ownership protocol: its rules and its timings, read from the agent."""

from __future__ import annotations

import inspect
from typing import Final

from docs.generator.markdown import first_sentence, page, shown, table
from nodeagent import guard, guard_server
from nodeagent.core import actions, lease
from nodeagent.core.contract import Timings
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP, Rule
from nodeagent.core.push_rules import PushRefusal

TIMING_TEXTS: Final = {
    "lease_duration_s": "How long a lease lasts from its last renewal, by the database's clock.",
    "lease_margin_s": "How much earlier its holder stops; covers stopping and clock drift.",
    "lease_renew_deadline_s": "How long renewing alone is tried before the peers are asked.",
    "lease_retry_s": "How long a heartbeat waits for its answer (never below 1 s).",
    "push_interval_s": "Seconds between two pushes: what may wait for a dead host's disk.",
    "promise_s": "How long a peer promises not to adopt; nothing is adopted so long after a start.",
    "retired_keep_days": "How long retired mail stays on disk, by its node's clock and, from the"
    " end of its receipt, by the database's clock: it is removed when both say so.",
}

REFUSAL_TEXTS: Final = {
    PushRefusal.STRANGER: "The key's owner offers a queue that is not its own.",
    PushRefusal.DIRECTION: "The sender owns no VIP, or the receiver owns the same one, or the"
    " receiver cannot read its addresses.",
    PushRefusal.RECEIPT: "The receiver is adopting this queue; its receipt is not finished.",
    PushRefusal.GENERATION: "The generation is below the highest the receiver knows, by push or by"
    " its own adoption.",
    PushRefusal.SEQUENCE: "The sequence number is not newer than the one in place.",
    PushRefusal.BASE: "The push was computed against another state of the mirror.",
    PushRefusal.NOT_FULL: "The first push of a generation or of an agent process did not compare"
    " everything.",
}


def actions_of(rule: Rule) -> list[str]:
    """Return the names of the actions that a rule may plan, in the order it names them."""
    names = rule.plan.__code__.co_names
    found = (getattr(actions, name, None) for name in names)
    return [
        one.__name__ for one in found if isinstance(one, type) and issubclass(one, actions.Action)
    ]


def flow_of(rules: tuple[Rule, ...]) -> str:
    """Return a Mermaid flow: from rule to rule until one applies."""
    lines = ["```mermaid", "flowchart TD"]
    for number, rule in enumerate(rules):
        lines.append(f'    r{number}{{"{rule.name}"}}')
        planned = ", ".join(actions_of(rule)) or "nothing"
        lines.append(f'    r{number} -- applies --> a{number}["{planned}"]')
        if number + 1 < len(rules):
            lines.append(f"    r{number} -- no --> r{number + 1}")
    return "\n".join([*lines, "```"])


def _rule_table(rules: tuple[Rule, ...]) -> str:
    rows = (
        (str(number), f"`{rule.name}`", rule.comment, ", ".join(actions_of(rule)) or "nothing")
        for number, rule in enumerate(rules, 1)
    )
    return table(("", "rule", "when and why", "plans"), rows)


def _action_table() -> str:
    known = [
        one
        for _, one in inspect.getmembers(actions, inspect.isclass)
        if issubclass(one, actions.Action) and one is not actions.Action
    ]
    rows = (
        (f"`{one.__name__}`", "job" if one.is_job else "", first_sentence(one.__doc__))
        for one in known
    )
    return table(("action", "", "effect"), rows)


def rules_page() -> str:
    """Return the rule tables of the agent and of the receiver."""
    refusals = ((f"`{reason}`", text) for reason, text in REFUSAL_TEXTS.items())
    return page(
        "Rules",
        "Each tick the agent takes one observation and reads two tables from the top; in each the"
        " first rule that applies decides. `relay-agent explain` names the rule that matched last."
        " See [architecture](../explanation/architecture.md) for the loop and"
        " [ownership](../explanation/ownership.md) for the reasons.",
        "## Ownership: whose mail it is and where it goes",
        _rule_table(OWNERSHIP),
        flow_of(OWNERSHIP),
        "## Housekeeping: this node's own files and addresses",
        _rule_table(HOUSEKEEPING),
        "## Actions",
        "A job takes longer than a tick may; one job runs at a time, and meanwhile only the rules"
        " above `job-running` act.",
        _action_table(),
        "## Why a mirror refuses a push",
        "The receiver looks when a session begins and again under the mirror's lock. The first"
        " reason that applies is told the sender and noted as the event `push-refused`.",
        table(("reason", "when"), refusals),
    )


def _checks_of_timings() -> str:
    """Return the sentences that a cluster gets whose timings all contradict each other."""
    bad = Timings(
        lease_duration_s=5, lease_margin_s=4, lease_renew_deadline_s=3, lease_retry_s=3, promise_s=1
    )
    return "\n".join(f"* {sentence}" for _, sentence in lease.check_timings(bad))


def timings_page() -> str:
    """Return every duration of the ownership protocol, and how they fit together."""
    rows = (
        (f"`{name}`", shown(field.default), TIMING_TEXTS[name])
        for name, field in Timings.model_fields.items()
    )
    default = Timings()
    proof_s = default.lease_duration_s - default.lease_margin_s
    fixed = (
        ("the guard fences", f"{proof_s:g} s", "after the last renewal was sent, if none follows"),
        (
            "the agent asks its peers",
            f"{default.lease_renew_deadline_s:g} s",
            "after the last renewal was sent",
        ),
        (
            "deliveries may end by themselves",
            f"{lease.drain_limit_s(default):g} s",
            f"after the deadline: {lease.DRAIN_SHARE:g} of the margin; then they are killed",
        ),
        ("a freeze ends at the latest", f"{guard.FREEZE_LIMIT_S:g} s", "after it began"),
        ("the guard looks", f"{guard_server.POLL_S:g} s", "at most after it looked last"),
    )
    return page(
        "Timings",
        "These belong to the cluster: change them with `PATCH /api/v1/cluster` (`timings`). The"
        " agents get them with the next heartbeat.",
        table(("timing", "default", "meaning"), rows),
        "## What follows from the defaults",
        table(("what", "time", "counted"), fixed),
        "## What is refused",
        "`lease_retry_s` < `lease_renew_deadline_s` < `lease_duration_s` - `lease_margin_s`, and"
        " `promise_s` > `lease_margin_s` + `lease_retry_s`, and `promise_s` > `lease_duration_s` -"
        " `lease_renew_deadline_s`. The control plane refuses"
        " anything else, one sentence a field:",
        _checks_of_timings(),
    )
