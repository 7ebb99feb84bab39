"""Clusters that several render tests share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from controlplane.core.spec import (
    ClusterMode,
    ClusterSpec,
    NodeSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    TlsSpec,
    VipSpec,
    VrrpSpec,
)
from nodeagent.core.contract import ConfigFile

NODE_A = NodeSpec(
    name="node-a",
    address="198.51.100.11",
    cluster_mode=ClusterMode.MASTER,
    vrrp_priority=150,
    interface="eth0",
)
NODE_B = NodeSpec(
    name="node-b", address="198.51.100.12", cluster_mode=ClusterMode.SLAVE, interface="eth0"
)
NODE_C = NodeSpec(
    name="node-c",
    address="198.51.100.13",
    cluster_mode=ClusterMode.SLAVE,
    vrrp_priority=50,
    interface="eth0",
)
VIP = VipSpec(address="198.51.100.100", virtual_router_id=51)
SECOND_VIP = VipSpec(address="198.51.100.101", virtual_router_id=52)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    """Write a private key as PEM."""
    cipher = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher).decode()


def certificate_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Make a self-signed certificate of a key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM).decode()


@cache
def certificate() -> TlsSpec:
    """Give one matching pair for the whole run."""
    key = new_key()
    return TlsSpec(cert_pem=certificate_pem(key), key_pem=key_pem(key))


def pair(**changes: object) -> ClusterSpec:
    """Give two nodes and one VIP, with whatever else the test changes."""
    return ClusterSpec(**{"nodes": (NODE_A, NODE_B), "vips": (VIP,), **changes})


def rich(**changes: object) -> ClusterSpec:
    """Give two nodes with every feature in use."""
    return pair(
        **{
            "domain": "relay.example",
            "recipient_domains": (
                RecipientDomain(name="example.com", next_hop="198.51.100.20"),
                RecipientDomain(name=".example.com", next_hop="mx.example.net", port=2525),
                RecipientDomain(name="bücher.example", tls_mode=TlsMode.VERIFY),
                RecipientDomain(name="plain.example"),
                RecipientDomain(
                    name="six.example", next_hop="2001:db8::25", tls_mode=TlsMode.ENCRYPT
                ),
            ),
            "sender_policies": (
                SenderPolicy(domain="allowed-domain.tld", action=SenderAction.ALLOWED),
                SenderPolicy(
                    domain="blocked-domain.tld",
                    action=SenderAction.BLOCKED,
                    reply_text="Not from here; see #7 & $HOME {x}",
                ),
            ),
            "sender_default": SenderAction.BLOCKED,
            "sender_default_reply_text": "Costs $1 / mail",
            "routes": (
                SenderRoute(
                    sender="@allowed-domain.tld",
                    next_hop="smtp.provider.example",
                    port=587,
                    tls_mode=TlsMode.VERIFY,
                    username="relay@provider",
                    password='p:a ss#"$x',
                ),
                SenderRoute(
                    sender="Boss@allowed-domain.tld",
                    next_hop="smtp.provider.example",
                    port=587,
                    tls_mode=TlsMode.NONE,
                ),
            ),
            "trusted_networks": ("198.51.100.0/24", "2001:db8::/32"),
            "postmaster": "ops@example.net",
            "vrrp": VrrpSpec(advert_int_s=0.1),
            "tls": certificate(),
            **changes,
        }
    )


def by_path(files: tuple[ConfigFile, ...]) -> dict[str, ConfigFile]:
    """Index rendered files by their path."""
    return {file.path: file for file in files}


def write_below(root: Path, files: tuple[ConfigFile, ...]) -> Path:
    """Write rendered files below a directory, with their modes."""
    for file in files:
        path = root / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        path.chmod(int(file.mode, 8))
    return root
