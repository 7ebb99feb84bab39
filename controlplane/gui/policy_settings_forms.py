"""The settings of the mail policy as forms: one for each group, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.gui.forms import Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_words import SEVERITIES, VERDICT_OPTIONS
from nodeagent.policy.document import FaultAction, Privacy
from nodeagent.policy.model import Stage

LISTS: Final = frozenset({"blocked_extensions", "rate_exempt"})
"""Fields whose text is split at white space."""
PRIVACY_OPTIONS: Final = (
    Option(Privacy.REDACTED.value, N_("redacted: no address, subject or IP is in it")),
    Option(Privacy.PSEUDONYMOUS.value, N_("pseudonymous: a keyed hash in their place")),
    Option(Privacy.FULL.value, N_("full: everything is told")),
)
FAULT_OPTIONS: Final = (
    Option(FaultAction.TEMPFAIL.value, N_("put off: the sender tries again")),
    Option(FaultAction.REJECT.value, N_("refuse")),
    Option(FaultAction.QUARANTINE.value, N_("quarantine: hold it")),
    Option(FaultAction.ACCEPT.value, N_("accept without looking")),
)
VERDICTS: Final = tuple(VERDICT_OPTIONS.values())
STAGE_OPTIONS: Final = tuple(Option.of(one.value, one.name) for one in Stage)
STAGES_HINT: Final = N_(
    "Without DATA no content is checked, nothing is held or discarded, accepted mail is not logged,"
    " and there can be no categories."
)
SEVERITY_LABELS: Final = {
    "low": N_("A bad word of low severity"),
    "medium": N_("A bad word of medium severity"),
    "high": N_("A bad word of high severity"),
    "critical": N_("A bad word of critical severity"),
}


@dataclass(frozen=True)
class Group:
    """One part of the settings: how it is called and its form."""

    name: str
    title: str
    form: Form


def _switch(name: str, label: str, hint: str = "") -> Field:
    return Field(name, label, hint, Widget.CHECKBOX)


def _verdict(name: str, label: str, hint: str = "") -> Field:
    return Field(name, label, hint, Widget.SELECT, VERDICTS)


def _number(name: str, label: str, hint: str = "", **limits: str) -> Field:
    attributes = {"step": "any", **limits}
    return Field(name, label, hint, Widget.NUMBER, is_required=True, attributes=attributes)


def _fault(name: str, label: str) -> Field:
    return Field(name, label, widget=Widget.SELECT, options=FAULT_OPTIONS)


LOG: Final = Group(
    "log",
    N_("What is told"),
    Form(
        (
            Field(
                "privacy",
                N_("Privacy of the log"),
                hint=N_(
                    "What of addresses, subjects and IPs the policy log may have;"
                    " the queue and the trace of messages have addresses all the same."
                ),
                widget=Widget.SELECT,
                options=PRIVACY_OPTIONS,
            ),
            _switch(
                "adds_headers",
                N_("Write headers"),
                N_("X-Relay-Policy and Authentication-Results, on mail that passes."),
            ),
            Field(
                "unsubscribe_url",
                N_("URL to unsubscribe"),
                hint=N_("https://HOST:8443/unsubscribe, as subscribers reach it; empty: no link."),
                attributes={"maxlength": "300", "autocomplete": "off"},
            ),
        )
    ),
)
CONTENT: Final = Group(
    "content",
    N_("Content"),
    Form(
        (
            *(_verdict(one.value, SEVERITY_LABELS[one.value]) for one in SEVERITIES),
            _switch("has_threats", N_("Look for threat patterns")),
            _number(
                "threat_quarantine_score",
                N_("Quarantine from this score on"),
                N_("The scores of all threat rules that fire are added up."),
                min="0.1",
                max="1000",
            ),
            _number("threat_reject_score", N_("Refuse from this score on"), min="0.1", max="1000"),
            Field(
                "blocked_extensions",
                N_("Attachments that are not let through"),
                hint=N_(
                    "Endings of file names, also inside archives: small letters, without the dot,"
                    " white space between them."
                ),
                widget=Widget.TEXTAREA,
            ),
            _switch(
                "blocks_disguised",
                N_("No attachment under the name of something else"),
                N_("Programs and shortcuts called a document, and names that hide their type."),
            ),
            _switch(
                "blocks_encrypted",
                N_("No encrypted archives"),
                N_("What they hold cannot be looked at."),
            ),
            _verdict("attachment_verdict", N_("A dangerous attachment")),
            _switch(
                "trusted_skip_content",
                N_("Trust the content of trusted networks and logins"),
                N_("No bad words, threats and dangerous attachments are looked for there."),
            ),
        )
    ),
)
CHECKS: Final = Group(
    "checks",
    N_("HELO, sender and recipients"),
    Form(
        (
            _switch("checks.helo_is_valid", N_("HELO is a host name or an address literal")),
            _switch("checks.helo_is_not_ours", N_("No stranger is called as we are")),
            _switch("checks.helo_is_qualified", N_("HELO has a dot")),
            _switch("checks.sender_is_valid", N_("The sender is an address; a bounce always may")),
            _switch(
                "checks.sender_is_not_ours",
                N_("Mail from our domains comes from trusted networks or logins only"),
            ),
            _switch("checks.recipient_is_valid", N_("Recipients are addresses")),
            _switch("checks.null_sender_one_recipient", N_("A bounce has one recipient")),
            _number(
                "checks.most_recipients", N_("Most recipients of a mail"), min="1", max="100000"
            ),
            Field(
                "rate_exempt",
                N_("Who is not limited"),
                hint=N_("Addresses, *@domain and networks; white space between them."),
                widget=Widget.TEXTAREA,
            ),
        )
    ),
)
AUTHENTICATION: Final = Group(
    "authentication",
    "SPF, DKIM, DMARC",
    Form(
        (
            _switch("spf.is_enabled", N_("Check SPF"), N_("A DNS that fails refuses nobody.")),
            _verdict("spf.on_fail", N_("When SPF fails")),
            _switch("dkim.is_enabled", N_("Check DKIM")),
            _verdict("dkim.on_fail", N_("When DKIM fails")),
            _switch("dmarc.is_enabled", N_("Check DMARC")),
            _verdict("dmarc.on_fail", N_("When DMARC fails")),
        )
    ),
)
HTTP: Final = Group(
    "http",
    N_("The door for Stalwart"),
    Form(
        (
            _switch(
                "http.is_enabled",
                N_("Open the door"),
                N_("It needs a credential first; see the end of this page."),
            ),
            Field(
                "http.address",
                N_("IP address to listen at"),
                hint=N_(
                    "One for all nodes: 127.0.0.1, or 0.0.0.0 (IPv6: ::) where Stalwart runs"
                    " elsewhere and asks the VIP; let a firewall keep all others out."
                ),
                is_required=True,
            ),
            _number("http.port", N_("Port"), min="1", max="65535"),
            Field("http.stages", N_("Stages"), STAGES_HINT, Widget.CHECKBOXES, STAGE_OPTIONS),
            _fault("http.on_timeout", N_("When a decision takes too long")),
            _fault("http.on_invalid", N_("When a request cannot be read")),
            _fault("http.on_fault", N_("When the hook fails")),
        )
    ),
)
LIMITS: Final = Group(
    "limits",
    N_("Limits"),
    Form(
        (
            Field(
                "stages",
                N_("Stages at which Postfix asks"),
                STAGES_HINT,
                Widget.CHECKBOXES,
                STAGE_OPTIONS,
            ),
            _number(
                "inspected_bytes",
                N_("Bytes of a mail that are looked at"),
                N_("What comes behind is delivered unseen."),
                min="65536",
                max="67108864",
            ),
            _number(
                "decision_timeout_s", N_("Seconds that a decision may take"), min="1", max="60"
            ),
        )
    ),
)
GROUPS: Final = {one.name: one for one in (LOG, CONTENT, CHECKS, AUTHENTICATION, HTTP, LIMITS)}
