"""The certificate that the lab gives the pair."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from lab import certificate


def test_it_is_valid_for_all_names_and_addresses(tmp_path: Path) -> None:
    """A TLS library takes certificate and key together, and it names what it was made for."""
    made = certificate.make(("relay.internal", "node-a"), ("198.51.100.100", "198.51.100.11"))
    path = tmp_path / "both.pem"
    path.write_text(made["cert_pem"] + made["key_pem"])
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path)
    read = x509.load_pem_x509_certificate(made["cert_pem"].encode())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["relay.internal", "node-a"]
    shown = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert shown == ["198.51.100.100", "198.51.100.11"]


def test_every_lab_has_a_key_of_its_own() -> None:
    """No key is the same twice."""
    assert certificate.make(("a",), ())["key_pem"] != certificate.make(("a",), ())["key_pem"]
