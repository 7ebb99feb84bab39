"""The four mail lists as pages describe them: fields with a line each, columns, what they build."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from controlplane.api.csv_lists import ListName
from controlplane.api.domains import DomainBody
from controlplane.api.error_handlers import field_sentences
from controlplane.api.policies import PolicyBody
from controlplane.api.routes import RouteBody, route_of
from controlplane.core.spec import RecipientDomain, SenderPolicy
from controlplane.errors import Invalid
from controlplane.gui.forms import Field, FilledForm, Form, Model, Option, Widget
from controlplane.gui.language import N_
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import DOMAINS, NETWORKS, POLICIES, ROUTES, Noun

TLS_OPTIONS: Final = (
    Option("none", N_("none: never")),
    Option("may", N_("may: when offered")),
    Option("encrypt", N_("encrypt: always, any certificate")),
    Option("verify", N_("verify: always, certificate and name are checked")),
)
PORT: Final = Field(
    "port",
    N_("Port"),
    hint=N_("25 between servers, 587 to a provider."),
    widget=Widget.NUMBER,
    is_required=True,
    attributes={"min": "1", "max": "65535"},
)
TLS_MODE: Final = Field(
    "tls_mode",
    N_("TLS"),
    hint=N_("Whether mail may leave without encryption, and who may read it."),
    widget=Widget.SELECT,
    options=TLS_OPTIONS,
)


@dataclass(frozen=True)
class MailList:
    """One list: how it is called, which form an item has, and which columns the list shows."""

    name: ListName
    noun: Noun[Any]
    title: str
    lead: str
    add: str
    empty: str
    key: Field
    fields: tuple[Field, ...]
    columns: tuple[tuple[str, str], ...]
    build: Callable[[ClusterStore, str, FilledForm], Any]
    defaults: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Where its pages are."""
        return f"/mail/{self.name.value}"

    def form(self, *, is_new: bool) -> Form:
        """Return the form; what an item is called cannot be changed."""
        return Form((self.key, *self.fields) if is_new else self.fields)


def build_given(form: FilledForm, model: type[Model], **more: Any) -> Model:
    """Return a model of what was filled in; what was left empty has the model's default."""
    given = {name: value for name, value in form.data().items() if value not in {None, ""}}
    given = {name: value for name, value in given.items() if name in model.model_fields}
    try:
        return model(**given, **more)
    except ValidationError as error:
        fields = field_sentences(error.errors())
        raise Invalid("Some values cannot be used; nothing was changed.", fields) from error


def _domain(store: ClusterStore, key: str, form: FilledForm) -> BaseModel:
    del store
    return RecipientDomain(name=key, **dict(build_given(form, DomainBody)))


def _policy(store: ClusterStore, key: str, form: FilledForm) -> BaseModel:
    del store
    return SenderPolicy(domain=key, **dict(build_given(form, PolicyBody)))


def _route(store: ClusterStore, key: str, form: FilledForm) -> BaseModel:
    return route_of(store, key, build_given(form, RouteBody))


def _network(store: ClusterStore, key: str, form: FilledForm) -> str:
    del store, form
    return key


DOMAIN_LIST: Final = MailList(
    ListName.DOMAINS,
    DOMAINS,
    title=N_("Recipient domains"),
    lead=N_("Mail to these domains is accepted from anybody and handed on."),
    add=N_("Add a domain"),
    empty=N_("No domain fits. Without domains only trusted networks can send."),
    key=Field(
        "name",
        N_("Domain"),
        hint=N_("example.com, or .example.com for all its subdomains."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "255"},
    ),
    fields=(
        Field(
            "next_hop",
            N_("Next hop"),
            hint=N_("Host or IP address that takes the mail; empty: the domain's MX."),
            attributes={"autocomplete": "off", "maxlength": "255"},
        ),
        PORT,
        TLS_MODE,
    ),
    columns=(
        ("name", N_("Domain")),
        ("next_hop", N_("Next hop")),
        ("port", N_("Port")),
        ("tls_mode", N_("TLS")),
    ),
    build=_domain,
    defaults={"port": 25, "tls_mode": "may"},
)
POLICY_LIST: Final = MailList(
    ListName.POLICIES,
    POLICIES,
    title=N_("Sender policies"),
    lead=N_("Which sender domains may use the relay; this binds trusted networks too."),
    add=N_("Add a policy"),
    empty=N_("No policy fits: the default holds for every sender domain."),
    key=Field(
        "domain",
        N_("Sender domain"),
        hint=N_("example.com, or .example.com for all its subdomains."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "255"},
    ),
    fields=(
        Field(
            "action",
            N_("Policy"),
            hint=N_("Blocked mail is refused before its content is sent."),
            widget=Widget.SELECT,
            options=(Option("allowed", N_("allowed")), Option("blocked", N_("blocked"))),
        ),
        Field(
            "reply_text",
            N_("Reply text"),
            hint=N_('What a blocked sender is told after "550 5.7.1"; empty: a default text.'),
            attributes={"maxlength": "400"},
        ),
    ),
    columns=(
        ("domain", N_("Sender domain")),
        ("action", N_("Policy")),
        ("reply_text", N_("Reply text")),
    ),
    build=_policy,
    defaults={"action": "blocked"},
)
ROUTE_LIST: Final = MailList(
    ListName.ROUTES,
    ROUTES,
    title=N_("Relay routes"),
    lead=N_("Where mail of one sender or sender domain goes, with its own credentials."),
    add=N_("Add a route"),
    empty=N_("No route fits: mail goes to the MX of its recipient."),
    key=Field(
        "sender",
        N_("Sender"),
        hint=N_("@example.com for a domain, or one full address."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "320"},
    ),
    fields=(
        Field(
            "next_hop",
            N_("Next hop"),
            hint=N_("Host or IP address that takes the mail; never looked up as an MX."),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "255"},
        ),
        PORT,
        TLS_MODE,
        Field(
            "username",
            N_("User name"),
            hint=N_("Empty: the relay does not log in at the next hop."),
            attributes={"autocomplete": "off", "maxlength": "512"},
        ),
        Field(
            "password",
            N_("Password"),
            hint=N_("Never shown again; empty: the stored one stays."),
            widget=Widget.PASSWORD,
            is_secret=True,
            attributes={"autocomplete": "new-password", "maxlength": "512"},
        ),
    ),
    columns=(
        ("sender", N_("Sender")),
        ("next_hop", N_("Next hop")),
        ("port", N_("Port")),
        ("tls_mode", N_("TLS")),
        ("username", N_("User name")),
    ),
    build=_route,
    defaults={"port": 25, "tls_mode": "encrypt"},
)
NETWORK_LIST: Final = MailList(
    ListName.NETWORKS,
    NETWORKS,
    title=N_("Trusted networks"),
    lead=N_("Clients in these networks may relay to any domain without a login."),
    add=N_("Add a network"),
    empty=N_("No network fits: only the relay itself may send anywhere."),
    key=Field(
        "network",
        N_("Network"),
        hint=N_("CIDR, for instance 192.0.2.0/24 or 2001:db8::/32."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "64"},
    ),
    fields=(),
    columns=(("network", N_("Network")),),
    build=_network,
    defaults={},
)
MAIL_LISTS: Final = {one.name: one for one in (DOMAIN_LIST, POLICY_LIST, ROUTE_LIST, NETWORK_LIST)}
