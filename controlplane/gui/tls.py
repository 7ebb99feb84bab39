"""The certificate: what it says, how long it lasts, whether its chain is complete; replacing it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import Response

from controlplane.api.cluster_access import StoreDep
from controlplane.api.tls import (
    CertificateBody,
    CertificateView,
    delete_certificate,
    put_certificate,
    read_certificate,
)
from controlplane.api.user_auth import SettingsDep
from controlplane.core.attention_finders import CERTIFICATE_BAD_DAYS, CERTIFICATE_WARN_DAYS
from controlplane.errors import ControlPlaneError, Invalid, NotFound
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.settings import Settings
from controlplane.store.cluster import ClusterStore
from controlplane.tls import ca_fingerprint

router = page_router()

PAGE: Final = "/tls"
BETWEEN_NAMES: Final = re.compile(r"[,\s]+")
FORM: Final = Form(
    (
        Field(
            "cert_pem",
            N_("Certificate with its chain"),
            hint=N_("PEM: the server's own first, then each issuer in turn."),
            widget=Widget.FILE_TEXT,
            is_required=True,
            attributes={"rows": "6", "spellcheck": "false"},
        ),
        Field(
            "key_pem",
            N_("Private key"),
            hint=N_("PEM, without a passphrase. It is stored encrypted and never shown."),
            widget=Widget.FILE_TEXT,
            is_required=True,
            is_secret=True,
            attributes={"rows": "6", "spellcheck": "false", "autocomplete": "off"},
        ),
        Field(
            "names",
            N_("Names that it has to hold"),
            hint=N_("Host names that clients use, separated by commas; it is refused without one."),
            attributes={"autocomplete": "off", "maxlength": "2000"},
        ),
    ),
    submit=N_("Replace the certificate"),
)


@router.get("/tls")
def tls_page(shell: ReadShell, store: StoreDep, settings: SettingsDep) -> Response:
    """Show the certificate."""
    view = _present(store)
    names = view.names if view is not None and not view.is_own else []
    return _page(shell, settings, view, FORM.filled({"names": ", ".join(names)}))


@router.post("/tls")
def replace_by_form(
    shell: AdminShell, posted: Posted, store: StoreDep, settings: SettingsDep
) -> Response:
    """Replace the certificate; a refused one changes nothing."""
    form = FORM.posted(posted)
    try:
        put_certificate(_body(form), shell.signed_in, store)
    except ControlPlaneError as error:
        refused = form.refused(_beside_fields(error))
        return _page(shell, settings, _present(store), refused, status=error.status)
    notice = N_("The certificate is replaced: the GUI shows it at once, Postfix after an apply.")
    return shell.done(PAGE, shell.text(notice))


@router.post("/tls/own")
def go_back(shell: AdminShell, store: StoreDep) -> Response:
    """Go back to certificates of our own."""
    delete_certificate(shell.signed_in, store)
    return shell.done(PAGE, shell.text(N_("Certificates of the control plane's own are used.")))


def _body(form: FilledForm) -> CertificateBody:
    for name in ("cert_pem", "key_pem"):
        form.required(name)
    names = [name for name in BETWEEN_NAMES.split(form.text("names")) if name]
    return form.build(CertificateBody, names=names)


def _beside_fields(error: ControlPlaneError) -> ControlPlaneError:
    """Put what is wrong with one of the names beside the field that holds them all."""
    if not isinstance(error, Invalid):
        return error
    named = {key.partition(".")[0]: sentence for key, sentence in error.fields.items()}
    return Invalid(error.detail, named)


def _present(store: ClusterStore) -> CertificateView | None:
    try:
        return read_certificate(store)
    except NotFound:
        return None


def _page(
    shell: Shell,
    settings: Settings,
    view: CertificateView | None,
    form: FilledForm,
    *,
    status: int = 200,
) -> Response:
    values: dict[str, Any] = {"view": view, "form": form}
    if view is not None:
        values["days_left"] = (view.not_after - datetime.now(UTC)).days
    return shell.page(
        "tls.html",
        status=status,
        ca_sha256=ca_fingerprint(settings.state_dir),
        warn_days=CERTIFICATE_WARN_DAYS,
        bad_days=CERTIFICATE_BAD_DAYS,
        **values,
    )
