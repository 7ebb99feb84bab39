"""The settings of the mail policy, and the credentials of its HTTP door."""

from __future__ import annotations

from typing import Annotated, Any, Optional

from fastapi import APIRouter, Path, status
from fastapi import Body as RequestBody
from pydantic import BaseModel, Field, create_model

from controlplane.api.cluster_access import Body
from controlplane.api.mail_security.views import PREFIX
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.policy_state import DIGESTS, FROM_CLUSTER, MADE_HERE
from controlplane.store import policy_settings
from controlplane.store.engine import DatabaseDep, ReadSession
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_settings import Credential
from nodeagent.policy.document import AuthenticationCheck, HttpDoor, PolicySettings, SenderChecks

router = APIRouter(prefix=f"{PREFIX}/settings", tags=["mail-security"])

HIDDEN = FROM_CLUSTER | MADE_HERE | DIGESTS | {"username", "header_name"}


def _fields(model: type[BaseModel], **sections: Any) -> dict[str, Any]:
    """Return the fields of a body in which each one of the model's may be left out."""
    return {
        name: (
            Optional[sections.get(name, info.annotation)],  # noqa: UP045 - made at run time
            Field(default=None, description=info.description),
        )
        for name, info in model.model_fields.items()
        if name not in HIDDEN
    }


def _change(name: str, doc: str, model: type[BaseModel], **sections: Any) -> type[Body]:
    fields = _fields(model, **sections)
    return create_model(name, __base__=Body, __doc__=doc, **fields)


_CHECK = _change("AuthenticationChange", "What to change of one check.", AuthenticationCheck)
SettingsChange = _change(
    "PolicySettingsChange",
    "What to change; everything that is left out stays as it is.",
    PolicySettings,
    checks=_change("SenderChecksChange", "Checks to change.", SenderChecks),
    http=_change("HttpDoorChange", "What to change of the HTTP door.", HttpDoor),
    spf=_CHECK,
    dkim=_CHECK,
    dmarc=_CHECK,
)
CHANGE_EXAMPLE = {"is_active": True, "privacy": "redacted", "checks": {"most_recipients": 100}}


class HttpDoorView(HttpDoor):
    """The HTTP door with whether there are secrets, not with them."""

    password_sha256: None = Field(default=None, exclude=True)
    token_sha256: None = Field(default=None, exclude=True)
    header_sha256: None = Field(default=None, exclude=True)
    has_password: bool = False
    has_token: bool = False
    has_header: bool = False


class PolicySettingsView(PolicySettings):
    """The settings as people see them."""

    trusted_networks: tuple[str, ...] = Field(default=(), exclude=True)
    own_domains: tuple[str, ...] = Field(default=(), exclude=True)
    own_names: tuple[str, ...] = Field(default=(), exclude=True)
    pseudonym_key: None = Field(default=None, exclude=True)
    http: HttpDoorView = HttpDoorView()


class SettingsView(Body):
    """The settings, and the revision of the policy that has them."""

    settings: PolicySettingsView
    revision: int = Field(description="Rises with each change that the nodes are told.")


class CredentialBody(Body):
    """Which secret to make anew."""

    kind: Credential = Field(
        description="`basic`: user name and password; `bearer`: a token; "
        "`header`: a header of its own."
    )
    name: str | None = Field(
        default=None,
        max_length=60,
        pattern=r"^[A-Za-z0-9-]+$",
        description="User name or name of the header; left out: the one there is.",
        examples=["stalwart"],
    )


class IssuedSecret(BaseModel):
    """A secret that is shown this once."""

    kind: Credential
    name: str | None
    secret: str


@router.get("", dependencies=[READ])
def read_policy_settings(session: ReadSession) -> SettingsView:
    """Show the settings of the mail policy; secrets are not shown, only whether there are any."""
    settings = policy_settings.read_policy_settings(session)
    return SettingsView(settings=_view(settings), revision=read_revision(session))


@router.patch("")
def patch_policy_settings(
    change: Annotated[SettingsChange, RequestBody(examples=[CHANGE_EXAMPLE])],  # type: ignore[valid-type]
    caller: AdminCaller,
    database: DatabaseDep,
) -> PolicySettingsView:
    """Change some settings; the nodes have them within two seconds."""
    wanted = change.model_dump(mode="json", exclude_unset=True)  # type: ignore[attr-defined]
    return _view(policy_settings.change_settings(database, wanted, caller.actor))


@router.post("/http-credentials", status_code=status.HTTP_201_CREATED)
def make_http_credential(
    body: CredentialBody, caller: AdminCaller, database: DatabaseDep
) -> IssuedSecret:
    """Make a new secret for the HTTP door; it is shown this once, and the old one opens nothing."""
    issued = policy_settings.issue_credential(database, body.kind, body.name, caller.actor)
    return IssuedSecret(kind=issued.kind, name=issued.name, secret=issued.secret)


@router.delete("/http-credentials/{kind}", status_code=status.HTTP_204_NO_CONTENT)
def delete_http_credential(
    kind: Annotated[Credential, Path(description="Which kind of secret.")],
    caller: AdminCaller,
    database: DatabaseDep,
) -> None:
    """Let nobody in by this kind of secret any more; 409 when it is the open door's last one."""
    policy_settings.withdraw_credential(database, kind, caller.actor)


def _view(settings: PolicySettings) -> PolicySettingsView:
    return PolicySettingsView.model_validate(policy_settings.shown(settings))
