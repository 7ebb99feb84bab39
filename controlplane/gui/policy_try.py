"""The page to try a mail on the policy: what happens at each stage, which rules fire, and why."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.mail_security.trying import MailParts, TryBody, TryResult, run_trial
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_words import WORDS
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep
from nodeagent.policy.engine.authentication import DmarcPolicy, Result

router = page_router()

TEXT: Final = {"autocomplete": "off", "maxlength": "1000"}
NOT_ASSUMED: Final = Option("", N_("not looked up"))
RESULTS: Final = (NOT_ASSUMED, *(Option.of(one.value) for one in Result))
POLICIES: Final = (Option("", N_("unknown")), *(Option.of(one.value) for one in DmarcPolicy))
ASSUMED: Final = ("spf", "dkim", "dmarc", "dmarc_policy")


def _assumed(name: str, label: str, options: tuple[Option, ...]) -> Field:
    hint = N_("Assumed, as no DNS is asked; it counts where the check is on.")
    return Field(name, label, hint if options is RESULTS else "", Widget.SELECT, options)


FORM: Final = Form(
    (
        Field("client", N_("Client"), hint=N_("Its IP address; empty: unknown."), attributes=TEXT),
        Field(
            "client_name",
            N_("Its host name"),
            hint=N_(
                "As the DNS has it, in both directions; empty: none. The relay's Postfix looks up"
                " no names, so its clients have none."
            ),
            attributes=TEXT,
        ),
        Field("helo", "HELO", hint=N_("What the client calls itself."), attributes=TEXT),
        Field("login", N_("Login"), hint=N_("Its SASL user name; empty: none."), attributes=TEXT),
        Field("sender", N_("Sender"), hint=N_("Empty: a bounce."), attributes=TEXT),
        Field(
            "recipients",
            N_("Recipients"),
            hint=N_("One a line."),
            widget=Widget.TEXTAREA,
            is_required=True,
        ),
        _assumed("spf", "SPF", RESULTS),
        _assumed("dkim", "DKIM", RESULTS),
        _assumed("dmarc", "DMARC", RESULTS),
        _assumed("dmarc_policy", N_("What the author's domain asks for (DMARC)"), POLICIES),
        Field("subject", N_("Subject"), attributes=TEXT),
        Field("text", N_("Text"), widget=Widget.TEXTAREA),
        Field(
            "raw",
            N_("Or the whole mail"),
            hint=N_("With its headers, as it lies in a file; subject and text are then left out."),
            widget=Widget.FILE_TEXT,
        ),
    ),
    submit=N_("Try it"),
)


@router.get("/policy/try")
def try_page(shell: ReadShell) -> Response:
    """Show the empty form."""
    return _page(shell, FORM.filled())


@router.post("/policy/try")
def try_by_form(
    request: Request,
    shell: OperateShell,
    posted: Posted,
    database: DatabaseDep,
    box: SecretBoxDep,
) -> Response:
    """Judge the mail that was typed; nothing is kept and nothing is sent."""
    form = FORM.posted(posted)
    try:
        result = run_trial(request.app.state.policy_trial, database, box, _body(form))
    except ControlPlaneError as error:
        return _page(shell, form.refused(error), status=error.status)
    return _page(shell, form, result)


def _body(form: FilledForm) -> TryBody:
    """Return the trial that was asked for; raises Invalid."""
    names = ("client", "client_name", "helo", "login", *ASSUMED)
    typed = {name: form.text(name).strip() or None for name in names}
    recipients = [one.strip() for one in form.required("recipients").splitlines() if one.strip()]
    raw = form.text("raw") or None
    mail: dict[str, Any] = {"raw": raw}
    if raw is None:
        fields = tuple(one for one in FORM.fields if one.name in MailParts.model_fields)
        parts = Form(fields).posted(form.values).build(MailParts, **_texts(form))
        mail = {"parts": parts}
    values = {**typed, "sender": form.text("sender").strip(), "recipients": recipients, **mail}
    return Form(()).filled().build(TryBody, **values)


def _texts(form: FilledForm) -> dict[str, str]:
    return {name: form.text(name) for name in ("subject", "text")}


def _page(
    shell: Shell, form: FilledForm, result: TryResult | None = None, *, status: int = 200
) -> Response:
    return shell.page("policy_try.html", status=status, form=form, result=result, **WORDS)
