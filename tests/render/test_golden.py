"""Rendered files, compared byte by byte with reviewed ones and judged by the real programs.

After an intended change: `RELAY_WRITE_GOLDEN=1 pytest tests/render/test_golden.py`, then review the
difference in the commit. A private key is never in a golden file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from controlplane.core.render import render
from controlplane.core.spec import ClusterMode, ClusterSpec, MiltersSpec, VipSpec
from controlplane.core.validation import validate
from nodeagent.core.config_plan import indexed_tables
from tests.render.keepalived_world import namespaces
from tests.render.specs import (
    NODE_A,
    NODE_B,
    NODE_C,
    SECOND_VIP,
    VIP,
    by_path,
    pair,
    rich,
    write_below,
)

GOLDEN = Path(__file__).parent / "golden"
SIX_A = NODE_A.model_copy(update={"address": "2001:db8::11"})
SIX_B = NODE_B.model_copy(update={"address": "2001:db8::12"})
ALONE = NODE_A.model_copy(update={"cluster_mode": ClusterMode.STANDALONE})

CASES: dict[str, tuple[ClusterSpec, str]] = {
    "pair-node-a": (pair(), "node-a"),
    "pair-node-b": (pair(), "node-b"),
    "rich-node-a": (rich(), "node-a"),
    "three-nodes-two-vips-node-c": (
        pair(nodes=(NODE_A, NODE_B, NODE_C), vips=(VIP, SECOND_VIP)),
        "node-c",
    ),
    "ipv6-node-a": (
        pair(nodes=(SIX_A, SIX_B), vips=(VipSpec(address="2001:DB8::100", virtual_router_id=6),)),
        "node-a",
    ),
    "standalone": (pair(nodes=(ALONE,)), "node-a"),
    "no-vip": (pair(vips=()), "node-a"),
    "filters": (
        pair(milters=MiltersSpec(policy=True, rspamd=True, clamav=True)),
        "node-a",
    ),
}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> tuple[str, ClusterSpec, str]:
    """Give one case: its name, its spec and the node."""
    return (request.param, *CASES[request.param])


@pytest.fixture
def staged(case: tuple[str, ClusterSpec, str], tmp_path: Path) -> Path:
    """Lay the rendered files over a copy of Debian's own, tables built, as the agent does."""
    _, spec, node = case
    files = render(spec, node)
    shutil.copytree("/etc/postfix", tmp_path / "etc/postfix", symlinks=True)
    write_below(tmp_path, files)
    for table in indexed_tables(files):
        subprocess.run(["postmap", f"{table.type}:{tmp_path}{table.path}"], check=True)
    return tmp_path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the real programs."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_files_are_the_reviewed_ones(case: tuple[str, ClusterSpec, str]) -> None:
    """Nothing changes in a rendered file that nobody looked at."""
    name, spec, node = case
    assert validate(spec) == ()
    files = [file for file in render(spec, node) if not file.path.endswith("tls.pem")]
    directory = GOLDEN / name
    if os.environ.get("RELAY_WRITE_GOLDEN"):
        shutil.rmtree(directory, ignore_errors=True)
        write_below(directory, tuple(files))
        for path in directory.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    there = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert there == {file.path.lstrip("/") for file in files}
    for file in files:
        assert file.content == (directory / file.path.lstrip("/")).read_text(), file.path


def test_every_indexed_table_is_found_by_the_agent(case: tuple[str, ClusterSpec, str]) -> None:
    """Every `.map` file is one that the agent compiles, and it compiles no other."""
    _, spec, node = case
    files = render(spec, node)
    tables = {table.path for table in indexed_tables(files)}
    assert tables == {file.path for file in files if file.path.endswith(".map")}


@pytest.mark.skipif(shutil.which("postconf") is None, reason="needs Postfix")
def test_postfix_finds_nothing_to_warn_about(staged: Path) -> None:
    """`postconf -n`, `postconf -M` and `postfix check` are silent."""
    config = str(staged / "etc/postfix")
    for command in (
        ("postconf", "-c", config, "-n"),
        ("postconf", "-c", config, "-M"),
        ("postfix", "-c", config, "check"),
    ):
        done = run(*command)
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("keepalived") is None, reason="needs root and keepalived"
)
def test_keepalived_accepts_the_file(staged: Path) -> None:
    """`keepalived -t` is silent, also where the check script is not installed yet."""
    config = str(staged / "etc/keepalived/keepalived.conf")
    with namespaces(1) as (name,):
        done = run("ip", "netns", "exec", name, "keepalived", "-t", "-f", config)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_script_is_valid_bash(staged: Path) -> None:
    """`bash -n` reads it to its end."""
    assert run("bash", "-n", str(staged / "etc/keepalived/check_smtp")).returncode == 0


def postmap_answer(root: Path, table: str, key: str) -> str:
    """Ask a table as Postfix would."""
    config = root / "etc/postfix"
    kind, _, name = table.partition(":")
    return run("postmap", "-c", str(config), "-q", key, f"{kind}:{config}/relay/{name}").stdout


@pytest.mark.skipif(shutil.which("postmap") is None, reason="needs Postfix")
@pytest.mark.parametrize(
    ("table", "key", "answer"),
    [
        (
            "lmdb:sender_policy.map",
            "blocked-domain.tld",
            "550 5.7.1 Not from here; see #7 & $HOME {x}",
        ),
        ("lmdb:sender_policy.map", "allowed-domain.tld", "OK"),
        ("lmdb:sender_policy.map", "<>", "DUNNO"),
        ("regexp:sender_default.regexp", "a@b.c", "550 5.7.1 Costs $1 / mail"),
        ("regexp:sender_default.regexp", "<>", "DUNNO"),
        ("lmdb:recipient_domains.map", "xn--bcher-kva.example", "relay"),
        ("lmdb:transport.map", "example.com", "relay:[198.51.100.20]:25"),
        ("lmdb:transport.map", ".example.com", "relay:[mx.example.net]:2525"),
        ("lmdb:transport.map", "xn--bcher-kva.example", "relay-verify:"),
        ("lmdb:transport.map", "six.example", "relay-encrypt:[2001:db8::25]:25"),
        ("lmdb:transport.map", "plain.example", ""),
        (
            "lmdb:sender_routes.map",
            "@allowed-domain.tld",
            "relay-verify-auth:[smtp.provider.example]:587",
        ),
        (
            "lmdb:sender_routes.map",
            "boss@allowed-domain.tld",
            "relay-none:[smtp.provider.example]:587",
        ),
        ("lmdb:sender_credentials.map", "@allowed-domain.tld", 'relay@provider:p:a ss#"$x'),
        ("lmdb:node_aliases.map", "root@node-a.relay.example", "ops@example.net"),
        ("cidr:trusted_networks.cidr", "198.51.100.77", "trusted"),
        ("cidr:trusted_networks.cidr", "2001:db8:7::1", "trusted"),
        ("cidr:trusted_networks.cidr", "203.0.113.1", ""),
    ],
)
def test_table_answers_as_the_spec_says(table: str, key: str, answer: str, tmp_path: Path) -> None:
    """What comes out of a compiled table is what went into the spec."""
    files = render(rich(), "node-a")
    write_below(tmp_path, files)
    for found in indexed_tables(files):
        subprocess.run(["postmap", f"{found.type}:{tmp_path}{found.path}"], check=True)
    assert postmap_answer(tmp_path, table, key).rstrip("\n") == answer


def test_secret_files_are_private() -> None:
    """Credentials and keys are readable by root only, everything else is no secret."""
    files = by_path(render(rich(), "node-a"))
    private = {path for path, file in files.items() if file.mode == "0600"}
    assert private == {
        "/etc/postfix/relay/sender_credentials.map",
        "/etc/postfix/relay/tls.pem",
    }
    others = "".join(file.content for path, file in files.items() if path not in private)
    assert "p:a ss" not in others
    assert "PRIVATE KEY" not in others
    assert files["/etc/keepalived/check_smtp"].mode == "0755"
