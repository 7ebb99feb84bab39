"""Try a mail out: which rules would fire on it, at which stage, and why; nothing is sent."""

from __future__ import annotations

import base64
import binascii
from email.message import EmailMessage
from email.policy import SMTP
from typing import Annotated, Final, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, IPvAnyAddress, StringConstraints, model_validator

from controlplane.api.cluster_access import Body
from controlplane.api.mail_security.log_views import FiredView
from controlplane.api.mail_security.views import PREFIX
from controlplane.api.permissions import OperateCaller
from controlplane.errors import Invalid
from controlplane.store.crypto import SecretBox, SecretBoxDep
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.policy_trial import PolicyTrial
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.trying import Trial
from nodeagent.policy.engine.values import domain_of
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Client,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    Session,
    Stage,
    Verdict,
)

router = APIRouter(prefix=f"{PREFIX}/try", tags=["mail-security"])

MOST_RECIPIENTS: Final = 100
MOST_CHARACTERS: Final = 6 * 1024 * 1024
_ASSUMED: Final = "assumed, as no DNS is asked. It counts where the check is on."
Line = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]


class MailParts(Body):
    """A mail that is put together for the trial."""

    subject: Line = ""
    author: Line = Field(default="", description="Its From header; empty: the sender.")
    text: str = Field(default="", max_length=MOST_CHARACTERS)
    html: str = Field(default="", max_length=MOST_CHARACTERS)
    attachments: list[Line] = Field(
        default=[], max_length=50, description="Names of attachments, which are empty."
    )


class TryBody(Body):
    """A mail and how it comes in; the mail whole (`raw`, `raw_base64`) or in parts."""

    client: IPvAnyAddress | None = Field(default=None, examples=["192.0.2.7"])
    client_name: Line | None = Field(
        default=None, description="As an MTA verified it; neither door tells one."
    )
    helo: Line | None = Field(default=None, examples=["mail.example.net"])
    login: Line | None = None
    spf: Result | None = Field(default=None, description=f"What SPF says; {_ASSUMED}")
    dkim: Result | None = Field(default=None, description=f"What DKIM says; {_ASSUMED}")
    dmarc: Result | None = Field(default=None, description=f"What DMARC says; {_ASSUMED}")
    dmarc_policy: DmarcPolicy | None = Field(
        default=None, description="What the author's domain asks for; with `dmarc` alone."
    )
    sender: Line = Field(default="", description="Empty: the null sender.")
    recipients: list[Line] = Field(min_length=1, max_length=MOST_RECIPIENTS)
    raw: str | None = Field(default=None, max_length=MOST_CHARACTERS)
    raw_base64: str | None = Field(default=None, max_length=MOST_CHARACTERS)
    parts: MailParts | None = None

    @model_validator(mode="after")
    def _is_one_mail(self) -> Self:
        given = [one for one in (self.raw, self.raw_base64, self.parts) if one is not None]
        if len(given) != 1:
            raise ValueError("Give the mail once: as raw, as raw_base64 or in parts.")
        return self


class StageView(BaseModel):
    """What is decided at one stage."""

    stage: Stage
    recipient: str | None = Field(description="Of which one, at RCPT.")
    verdict: Verdict
    reply: str | None = Field(description="What the client is told, where it is refused.")
    sentences: list[str] = Field(description="What is done, then why.")
    fired: list[FiredView]
    changes: list[str] = Field(description="What the mail is given on its way.")


class TryResult(BaseModel):
    """What would become of the mail."""

    verdict: Verdict = Field(
        description="Of the first stage that refuses the whole mail, else of its end."
    )
    stages: list[StageView]
    revision: int
    problems: list[str] = Field(description="What of the policy cannot be compiled.")
    notes: list[str] = Field(description="What to know of SPF, DKIM and DMARC in this trial.")


@router.post("")
def try_mail(
    body: TryBody,
    caller: OperateCaller,
    database: DatabaseDep,
    box: SecretBoxDep,
    request: Request,
) -> TryResult:
    """Say what would be decided about a mail, also after a stage that refuses it.

    No rate is counted, no DNS is asked (what SPF, DKIM and DMARC would say can be assumed), and a
    policy that is switched off is tried as if it were on. The mail is not kept.
    """
    del caller
    return run_trial(request.app.state.policy_trial, database, box, body)


def run_trial(trial: PolicyTrial, database: Database, box: SecretBox, body: TryBody) -> TryResult:
    """Return what would become of a mail; raises Invalid for one that cannot be read."""
    client = Client(body.client, name=body.client_name)
    session = Session(client, helo=body.helo, login=body.login)
    envelope = Envelope(body.sender, tuple(body.recipients))
    tried = trial.run(database, box, _raw(body), (session, envelope), _assumed(body))
    return TryResult(
        verdict=_verdict(tried.trials),
        stages=[_stage(one) for one in tried.trials],
        revision=tried.revision,
        problems=list(tried.problems),
        notes=list(tried.notes),
    )


def _assumed(body: TryBody) -> AuthenticationResults:
    """Return what is assumed of SPF, DKIM and DMARC, each by itself."""
    spf, dkim, dmarc = body.spf, body.dkim, body.dmarc
    name = domain_of(body.sender)
    signatures = () if dkim is Result.NONE or dkim is None else (DkimCheck(dkim),)
    return AuthenticationResults(
        spf=None if spf is None else SpfCheck(spf, name, is_of_helo=not body.sender),
        dkim=None if dkim is None else signatures,
        dmarc=None if dmarc is None else DmarcCheck(dmarc, policy=body.dmarc_policy),
    )


def _raw(body: TryBody) -> bytes:
    if body.raw is not None:
        return body.raw.encode()
    if body.raw_base64 is not None:
        try:
            return base64.b64decode(body.raw_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            sentence = "This is no base64."
            raise Invalid("The mail cannot be read.", {"raw_base64": sentence}) from error
    assert body.parts is not None  # noqa: S101 - one of the three is given
    return _put_together(body.parts, body)


def _put_together(parts: MailParts, body: TryBody) -> bytes:
    head = [f"From: {parts.author or body.sender}", f"To: {body.recipients[0]}"]
    head.append(f"Subject: {parts.subject}")
    mail = EmailMessage(policy=SMTP)
    mail.set_content(parts.text)
    if parts.html:
        mail.add_alternative(parts.html, subtype="html")
    for name in parts.attachments:
        mail.add_attachment(b"", maintype="application", subtype="octet-stream", filename=name)
    return "".join(f"{line}\r\n" for line in head).encode() + mail.as_bytes()


def _verdict(trials: tuple[Trial, ...]) -> Verdict:
    """Return what the mail gets: a recipient that is refused leaves the others."""
    for trial in trials:
        if trial.stage is not Stage.RCPT and trial.decision.verdict is not Verdict.ACCEPT:
            return trial.decision.verdict
    recipients = [one.decision.verdict for one in trials if one.stage is Stage.RCPT]
    refused = [one for one in recipients if one is not Verdict.ACCEPT]
    return refused[0] if refused and len(refused) == len(recipients) else Verdict.ACCEPT


def _stage(trial: Trial) -> StageView:
    decision = trial.decision
    return StageView(
        stage=trial.stage,
        recipient=trial.recipient,
        verdict=decision.verdict,
        reply=_reply(decision),
        sentences=list(trial.sentences),
        fired=[_fired(one) for one in decision.fired],
        changes=[_shown(_sentence(one)) for one in decision.changes],
    )


def _sentence(change: Change) -> str:
    match change:
        case AddHeader(name, value):
            return f"Adds {name}: {value}"
        case ChangeHeader(name, index, value):
            return f"Changes {name} number {index}: {value}" if value else f"Removes {name}"
        case AddRecipient(address):
            return f"Adds the recipient {address}"
        case DeleteRecipient(address):
            return f"Takes the recipient {address} away"
        case ChangeSender(address):
            return f"Changes the sender to {address}"


def _reply(decision: Decision) -> str | None:
    reply = decision.reply
    return None if reply is None else f"{reply.code} {reply.enhanced} {reply.text}"


def _fired(fired: Fired) -> FiredView:
    return FiredView(
        type=fired.kind,
        rule=fired.rule,
        text=fired.text,
        verdict=fired.verdict,
        severity=fired.severity,
        score=fired.score,
        matched=None if fired.matched is None else _shown(fired.matched),
    )


def _shown(text: str) -> str:
    """Return a stranger's text without bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()
