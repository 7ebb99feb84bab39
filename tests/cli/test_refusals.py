"""What `relayctl` says when things are not as they should be: one sentence and an exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from controlplane.store.engine import Database
from tests.cli.conftest import Operator, Served
from tests.fakes.certificates import make_pair


@pytest.fixture
def broken(paired: Operator, sqlite_database: Database) -> Operator:
    """Give an operator of a cluster whose settings an older program had let through."""
    with sqlite_database.write() as session:
        session.execute(text("UPDATE nodes SET address = 'nonsense' WHERE name = 'node-a'"))
    return paired


@pytest.mark.parametrize("command", [("config", "preview"), ("config", "diff")])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_settings_with_problems_are_exit_code_1(
    broken: Operator, command: tuple[str, ...], form: tuple[str, ...]
) -> None:
    """The field at fault is named, also beside JSON."""
    refused = broken(*command, *form)
    assert refused.code == 1
    assert "have problems and cannot be applied" in refused.err
    assert "nodes.node-a.address" in refused.err
    if form:
        assert "nodes.node-a.address" in refused.data["problems"]


def test_a_rollback_says_that_the_settings_stay(paired: Operator) -> None:
    """Otherwise the next apply would be a surprise."""
    paired("config", "apply")
    done = paired("config", "rollback", "1")
    assert done.out == "Version 2 has the files of version 1.\n"
    assert "The settings are unchanged" in done.err


def test_a_certificate_is_uploaded_from_files(relayctl: Operator, tmp_path: Path) -> None:
    """Its end and fingerprint are shown, its key nowhere."""
    certificate, key = make_pair()
    (tmp_path / "cert.pem").write_text(certificate)
    (tmp_path / "key.pem").write_text(key)
    files = (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    done = relayctl("certificate", "put", *files)
    shown = relayctl.json("certificate", "put", *files)
    assert (done.code, shown["is_own"]) == (0, False)
    assert shown["sha256"] in done.out
    assert shown["sha256"] in relayctl("certificate", "show").out
    swapped = relayctl("certificate", "put", *reversed(files))
    assert (swapped.code, "The certificate is not valid PEM." in swapped.err) == (1, True)


def test_a_file_that_is_no_text_is_wrong_usage(relayctl: Operator, tmp_path: Path) -> None:
    """Exit code 2, and nothing was sent."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, words in (("binary", "is not UTF-8 text"), ("missing", "cannot be read")):
        refused = relayctl("domains", "import", str(tmp_path / name))
        assert (refused.code, words in refused.err) == (2, True)


def test_a_node_that_never_reported_has_nothing_to_explain(paired: Operator) -> None:
    """Neither a rule nor an age is invented."""
    assert paired("explain", "node-a").out == "node-a has never reported.\n"
    assert paired.json("explain", "node-a")["rule"] is None
    assert "not enrolled" in paired("status").out


def test_a_server_that_speaks_no_tls_is_exit_code_4(stranger: Operator) -> None:
    """Whatever listens there is not the control plane."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
    stranger.set(RELAYCTL_PASSWORD="x")
    refused = stranger("login", "--url", f"https://127.0.0.1:{port}", "--fingerprint", "ab" * 32)
    assert (refused.code, "does not answer" in refused.err) == (4, True)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(
    stranger: Operator, served: Served, tmp_path: Path, content: str | None
) -> None:
    """Before a token is sent."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    stranger.set(RELAYCTL_URL=served.url, RELAYCTL_TOKEN="t", RELAYCTL_CA=str(path))
    refused = stranger("status")
    assert (refused.code, refused.err) == (2, f"relayctl: The CA file {path} cannot be used.\n")


def test_a_profile_that_cannot_be_written_is_named(
    stranger: Operator, served: Served, tmp_path: Path
) -> None:
    """The session is of no use then, and the operator learns why."""
    (tmp_path / "file").write_text("in the way")
    stranger.set(RELAYCTL_CONFIG=str(tmp_path / "file" / "profile.json"))
    stranger.set(RELAYCTL_PASSWORD="Admin123")
    refused = stranger("login", "--url", served.url, "--fingerprint", served.fingerprint)
    assert refused.code == 2
    assert str(tmp_path / "file") in refused.err
