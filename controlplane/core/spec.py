"""The cluster as its administrators described it: one frozen model behind every rendered file.

Theory of operation. The store reads its tables into one `ClusterSpec`; `validation.validate` says
what is wrong with it, in one sentence a field; `render.render` turns a valid one into files. The
types here are wide on purpose (an address is any text): a model that refuses in its constructor
reports one library's wording, `validate` reports ours. Only the shape is checked on construction.

Names may be written in Unicode and with capitals; what is rendered is the lower-case A-label form
(RFC 5891). Passwords and keys are `SecretStr`: they show as asterisks wherever a model is printed
or dumped, and only the rendering and the store open them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from nodeagent.core.contract import Timings

DEFAULT_PREFIX_LEN: Final = {4: 24, 6: 64}
DEFAULT_REPLY_TEXT: Final = "This sender domain is not allowed to use this relay"


class Spec(BaseModel):
    """Base of all parts: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterMode(StrEnum):
    """What a node is in its cluster, in the words its users know.

    MASTER and SLAVE share the VIPs by VRRP; the master is the one with the highest priority. A
    STANDALONE node has no peer: alone in its cluster it holds every VIP by itself (clients keep one
    address for ever, and a peer can be added later); beside a master it takes part in no VIP.
    """

    STANDALONE = "standalone"
    MASTER = "master"
    SLAVE = "slave"


class TlsMode(StrEnum):
    """How a next hop is spoken to: the levels of postconf(5), smtp_tls_security_level."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    VERIFY = "verify"


class SenderAction(StrEnum):
    """What happens to mail from a sender domain."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"


class InetProtocols(StrEnum):
    """Which IP versions Postfix uses; AUTO: ALL when the spec has an IPv6 address, else IPV4."""

    AUTO = "auto"
    ALL = "all"
    IPV4 = "ipv4"


class NodeSpec(Spec):
    """One relay host."""

    name: str
    address: str  # the node's own, IPv4 or IPv6; VRRP and SSH use it
    prefix_len: int | None = None  # of the node's network; None: 24 for IPv4, 64 for IPv6
    interface: str = "eth0"
    vrrp_priority: int = 100  # 1 to 254; the highest takes the first VIP at a common start
    cluster_mode: ClusterMode = ClusterMode.STANDALONE
    ssh_user: str = "root"
    ssh_port: int = 22
    hostname: str | None = None  # Postfix's myhostname; None: <name>.<domain of the cluster>
    is_maintenance: bool = False  # the agent keeps the node off the VIPs; nothing is rendered


class VipSpec(Spec):
    """One virtual address and its VRRP router."""

    address: str
    virtual_router_id: int  # 1 to 255, unique in the network segment
    prefix_len: int | None = None  # None: as the nodes' network
    interface: str | None = None  # where the address goes; None: each node's own interface


class RecipientDomain(Spec):
    """A domain that the relay accepts mail for, from anybody."""

    name: str  # ".example.com" stands for all subdomains of example.com
    next_hop: str | None = None  # host or IP address; None: the domain's MX
    port: int = 25
    tls_mode: TlsMode = TlsMode.MAY


class SenderPolicy(Spec):
    """Whether mail from a sender domain is accepted; it binds trusted networks too."""

    domain: str  # ".example.com" stands for all subdomains of example.com
    action: SenderAction
    reply_text: str = ""  # after "550 5.7.1"; empty: a default text


class SenderRoute(Spec):
    """Where mail of one sender or sender domain goes, but for the cluster's recipient domains."""

    sender: str  # "user@example.com" or "@example.com"
    next_hop: str  # host or IP address, brackets optional; never looked up as an MX
    port: int = 25
    tls_mode: TlsMode = TlsMode.ENCRYPT
    username: str | None = None
    password: SecretStr | None = None


class QueueSpec(Spec):
    """How long mail is tried, and how often (postconf(5), parameters of the same names).

    queue_run_delay <= minimal_backoff <= maximal_backoff <= maximal_queue_lifetime, and
    bounce_queue_lifetime <= maximal_queue_lifetime. A lifetime of 0: tried once.
    """

    maximal_queue_lifetime_s: int = 432_000
    bounce_queue_lifetime_s: int = 432_000
    minimal_backoff_s: int = 300
    maximal_backoff_s: int = 4_000
    queue_run_delay_s: int = 300


class VrrpSpec(Spec):
    """How fast the VIP moves."""

    advert_int_s: float = 1.0  # 0.01 to 40.95 in steps of 0.01 (RFC 9568: 12 bits of centiseconds)


class MilterDefault(StrEnum):
    """What Postfix does with mail when a milter does not answer (milter_default_action)."""

    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    QUARANTINE = "quarantine"


class MiltersSpec(Spec):
    """The mail filters that Postfix asks, in this order: our policy hook, rspamd, ClamAV.

    Addresses as milters are written in postconf(5): "inet:host:port" or "unix:/path".
    """

    policy: bool = False
    rspamd: bool = False
    rspamd_address: str = "inet:127.0.0.1:11332"
    clamav: bool = False
    clamav_address: str = "unix:/run/clamav/clamav-milter.ctl"
    default_action: MilterDefault = MilterDefault.TEMPFAIL


class TlsSpec(Spec):
    """The certificate that Postfix shows to its clients."""

    cert_pem: str  # the leaf first, then its chain
    key_pem: SecretStr


class ClusterSpec(Spec):
    """Everything that the files of all nodes are rendered from."""

    name: str = "relay"
    domain: str = "relay.internal"  # Postfix's mydomain
    nodes: tuple[NodeSpec, ...] = ()
    vips: tuple[VipSpec, ...] = ()
    recipient_domains: tuple[RecipientDomain, ...] = ()
    sender_policies: tuple[SenderPolicy, ...] = ()
    sender_default: SenderAction = SenderAction.ALLOWED
    sender_default_reply_text: str = ""  # after "550 5.7.1"; empty: a default text
    routes: tuple[SenderRoute, ...] = ()
    trusted_networks: tuple[str, ...] = ()  # CIDR; they may relay anywhere
    postmaster: str | None = None  # who gets mail for postmaster, root and abuse of the nodes
    message_size_limit_bytes: int = 52_428_800
    inet_protocols: InetProtocols = InetProtocols.AUTO
    queue: QueueSpec = Field(default_factory=QueueSpec)
    vrrp: VrrpSpec = Field(default_factory=VrrpSpec)
    milters: MiltersSpec = Field(default_factory=MiltersSpec)
    category_domains: tuple[str, ...] = ()  # in which the mail policy has a category
    timings: Timings = Field(default_factory=Timings)
    tls: TlsSpec | None = None  # None: STARTTLS is not offered

    def node(self, name: str) -> NodeSpec:
        """Give the node of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
