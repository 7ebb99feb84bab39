"""Rate limits and threat rules of the mail policy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.client import Client
from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import Misused, Refused
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    cell,
    given,
    print_done,
    print_list,
    print_one,
)
from controlplane.relayctl.policy_list_commands import API, all_items
from nodeagent.policy.document import RateSubject, RateWindow
from nodeagent.policy.model import Verdict

RATES: Final = f"{API}/rates"
RULES: Final = ("mail-security", "threat-rules")

rate = typer.Typer(help="How much mail one may send or get.", no_args_is_help=True)
threat_rule = typer.Typer(help="The built-in rules that look for threats.", no_args_is_help=True)


class AboveIt(StrEnum):
    """What happens to mail above a limit."""

    TEMPFAIL = Verdict.TEMPFAIL.value
    REJECT = Verdict.REJECT.value


Subject = Annotated[RateSubject, typer.Argument(help="Whose mail is counted.")]
Window = Annotated[RateWindow, typer.Argument(help="How long back.")]
LIMIT_HELP: Final = "How many mails; for recipient-domain, how many recipients."
Rule = Annotated[str, typer.Argument(help="The rule's name, such as sql-union.")]


@rate.command("list")
def list_rates(*, as_json: JsonFlag = False) -> None:
    """List the rate limits, newest first."""
    columns: Columns = {
        "WHOSE MAIL": "subject",
        "IN ONE": "window",
        "AT MOST": "limit",
        "ABOVE IT": "verdict",
        "ON": "is_enabled",
        "BY": "origin",
    }
    print_list(all_items("rates", ""), columns, "Nobody is limited.", as_json=as_json)


@rate.command("add")
def add_rate(
    subject: Subject,
    window: Window,
    limit: Annotated[int, typer.Argument(help=LIMIT_HELP)],
    *,
    verdict: Annotated[AboveIt, typer.Option(help="What happens above it.")] = AboveIt.TEMPFAIL,
    off: Annotated[bool, typer.Option("--off", help="Keep it, but limit nobody.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add or replace a rate limit; there is one for each subject and window."""
    body = {
        "subject": subject.value,
        "window": window.value,
        "limit": limit,
        "verdict": verdict.value,
        "is_enabled": not off,
    }
    with connect() as client:
        answer = client.put(RATES, body)
    print_done(answer, f"Stored {_told(answer)}.", as_json=as_json)


@rate.command("set")
def set_rate(
    subject: Subject,
    window: Window,
    *,
    limit: Annotated[int | None, typer.Option(help=LIMIT_HELP)] = None,
    verdict: Annotated[AboveIt | None, typer.Option(help="What happens above it.")] = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Whether it counts.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a rate limit; what is left out stays."""
    changes = given(limit=limit, verdict=verdict and verdict.value, is_enabled=on)
    with connect() as client:
        if not changes:
            raise Misused("Say what to change: --limit, --verdict, --on or --off.")
        present = _find(client, subject, window)
        kept = {name: present[name] for name in ("limit", "verdict", "is_enabled")}
        body = {"subject": subject.value, "window": window.value, **kept, **changes}
        answer = client.put(f"{RATES}{path_of(present['id'])}", body)
    print_done(answer, f"Stored {_told(answer)}.", as_json=as_json)


@rate.command("remove")
def remove_rate(subject: Subject, window: Window, *, as_json: JsonFlag = False) -> None:
    """Remove a rate limit."""
    with connect() as client:
        present = _find(client, subject, window)
        client.delete(f"{RATES}{path_of(present['id'])}")
    print_done({"removed": _pair(present)}, f"Removed {_pair(present)}.", as_json=as_json)


def _find(client: Client, subject: RateSubject, window: RateWindow) -> dict[str, Any]:
    """Return the limit of a subject in a window; raises Refused."""
    listed = client.get(RATES, search=subject.value)["items"]
    for one in listed:
        if (one["subject"], one["window"]) == (subject.value, window.value):
            return dict(one)
    raise Refused(f"There is no rate limit {subject.value} {window.value}.")


def _pair(one: dict[str, Any]) -> str:
    return f"{one['subject']} {one['window']}"


def _told(one: dict[str, Any]) -> str:
    state = "" if one["is_enabled"] else ", switched off"
    return f"{_pair(one)}: {one['limit']}, then {one['verdict']}{state}"


@threat_rule.command("list")
def list_threat_rules(
    changed: Annotated[bool, typer.Option("--changed", help="Only those not as built.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List the threat rules as they count now."""
    listed = [one for one in fetch(path_of(*RULES)) if one["is_changed"] or not changed]
    columns: Columns = {
        "RULE": "rule",
        "ON": "is_enabled",
        "SCORE": "score",
        "AS BUILT": "own_score",
        "SEVERITY": "severity",
        "LOOKS FOR": "description",
    }
    print_list(listed, columns, "No threat rule was changed.", as_json=as_json)


@threat_rule.command("show")
def show_threat_rule(rule: Rule, *, as_json: JsonFlag = False) -> None:
    """Show one threat rule."""
    print_one(fetch(path_of(*RULES, rule)), as_json=as_json)


@threat_rule.command("on")
def switch_rule_on(rule: Rule, *, as_json: JsonFlag = False) -> None:
    """Have mail searched by a threat rule; its score stays."""
    _change(rule, as_json=as_json, is_enabled=True)


@threat_rule.command("off")
def switch_rule_off(rule: Rule, *, as_json: JsonFlag = False) -> None:
    """Search no mail by a threat rule; its score is kept."""
    _change(rule, as_json=as_json, is_enabled=False)


@threat_rule.command("score")
def score_rule(
    rule: Rule,
    score: Annotated[float, typer.Argument(help="What it adds, 0 to 1000.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Give a threat rule another score; whether it is on stays."""
    _change(rule, as_json=as_json, score=score)


@threat_rule.command("reset")
def reset_rule(rule: Rule, *, as_json: JsonFlag = False) -> None:
    """Make a threat rule as it was built."""
    with connect() as client:
        answer = client.delete(path_of(*RULES, rule))
    print_done(answer, f"{_state(answer)}, as it was built.", as_json=as_json)


def _change(rule: str, *, as_json: bool, **changes: object) -> None:
    """Change one side of a rule; a score that is the rule's own follows the program's."""
    path = path_of(*RULES, rule)
    with connect() as client:
        present = client.get(path)
        is_own = present["score"] == present["own_score"]
        body = {
            "is_enabled": present["is_enabled"],
            "score": None if is_own else present["score"],
            **changes,
        }
        answer = client.put(path, body)
    print_done(answer, f"{_state(answer)}.", as_json=as_json)


def _state(one: dict[str, Any]) -> str:
    return f"{one['rule']} is {'on' if one['is_enabled'] else 'off'}, score {cell(one['score'])}"
