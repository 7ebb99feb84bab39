"""Logging in and out, with a second factor where there is one, and the password."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated, Any

import typer

from controlplane.relayctl.client import Client
from controlplane.relayctl.errors import Misused, NotLoggedIn
from controlplane.relayctl.output import JsonFlag, print_json, print_line, print_note
from controlplane.relayctl.profile import Profile, load_profile, save_profile
from controlplane.relayctl.trust import fetch_certificate, fingerprint_of, normalise_fingerprint


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("passwd")(change_password)


def login(
    url: Annotated[
        str | None, typer.Option(help="https://HOST:8443; the last one, if left out.")
    ] = None,
    user: Annotated[str, typer.Option(help="Who logs in.")] = "admin",
    fingerprint: Annotated[
        str | None, typer.Option(help="SHA-256 of the certificate to trust, in hex.")
    ] = None,
    ca: Annotated[str | None, typer.Option(help="PEM file of the CA to trust.")] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Log in and remember the session; the password is asked for, or RELAYCTL_PASSWORD.

    A user with a second factor is asked for a code of it, too, or RELAYCTL_CODE.
    """
    profile = _trusted_profile(url, fingerprint, ca)
    with Client(replace(profile, token=None)) as client:
        password = secret("RELAYCTL_PASSWORD", f"Password of {user}")
        opened = _open_session(client, {"user": user, "password": password})
    _remember(profile, opened, as_json=as_json)
    if opened["must_change_password"]:
        print_note("This password opens nothing but its own change: relayctl passwd.")


def _open_session(client: Client, body: dict[str, str]) -> dict[str, Any]:
    try:
        return dict(client.post("/session", body))
    except NotLoggedIn as error:
        if error.reason != "code-required":
            raise
    code = secret("RELAYCTL_CODE", "Code of the second factor")
    return dict(client.post("/session", {**body, "code": code}))


def logout(*, as_json: JsonFlag = False) -> None:
    """End the session and forget it."""
    profile = load_profile(os.environ)
    with Client(profile) as client:
        client.delete("/session")
    save_profile(os.environ, replace(profile, token=None))
    if as_json:
        print_json({"user": None})
    else:
        print_line("Logged out.")


def change_password(*, as_json: JsonFlag = False) -> None:
    """Set a new password: asked for, or RELAYCTL_PASSWORD and RELAYCTL_NEW_PASSWORD."""
    profile = load_profile(os.environ)
    if profile.token is None:
        raise NotLoggedIn
    current = secret("RELAYCTL_PASSWORD", "Present password")
    new = secret("RELAYCTL_NEW_PASSWORD", "New password", repeat=True)
    with Client(profile) as client:
        body = {"current_password": current, "new_password": new}
        opened = client.put("/session/password", body)
    _remember(profile, opened, as_json=as_json)


def _remember(profile: Profile, opened: dict[str, Any], *, as_json: bool) -> None:
    path = save_profile(os.environ, replace(profile, token=opened["token"]))
    shown = {name: value for name, value in opened.items() if name != "token"}
    if as_json:
        print_json(shown)
    else:
        print_line(f"Logged in as {opened['user']} until {opened['expires_at']} ({path}).")


def _trusted_profile(url: str | None, fingerprint: str | None, ca: str | None) -> Profile:
    """Return where to log in; without CA and fingerprint the operator is asked, as ssh(1) does."""
    known = load_profile(os.environ)
    if url is not None and url != known.url:
        known = Profile(url=url, ca=os.environ.get("RELAYCTL_CA"))
    if fingerprint is not None:
        return replace(known, fingerprint=normalise_fingerprint(fingerprint), ca=None)
    if ca is not None:
        return replace(known, ca=os.path.abspath(ca), fingerprint=None)  # noqa: PTH100 - no links
    if known.ca is not None or os.environ.get("RELAYCTL_FINGERPRINT"):
        return known
    shown = fingerprint_of(fetch_certificate(known.require_url()))
    if shown == known.fingerprint:
        return known
    print_note(f"{known.url} shows the certificate with the SHA-256 fingerprint\n{shown}")
    if not sys.stdin.isatty():
        raise Misused("Nobody can be asked here: give --fingerprint or --ca.")
    typer.confirm("Is that the control plane's?", abort=True, err=True)
    return replace(known, fingerprint=shown)


def secret(variable: str, prompt: str, *, repeat: bool = False) -> str:
    """Return a secret from the environment, else from the terminal; never from the command line."""
    given = os.environ.get(variable)
    if given:
        return given
    if not sys.stdin.isatty():
        raise Misused(f"Nobody can be asked here: set {variable}.")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=repeat, err=True))
