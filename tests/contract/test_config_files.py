"""Putting a config live over a real Postfix: validated, swapped, reloaded, or put back."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.adapters import control_groups
from nodeagent.adapters.config_files import ConfigFiles
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.smtp_probe import wait_for_server
from nodeagent.core.config_plan import files_sha256
from nodeagent.core.contract import ConfigBundle, ConfigFile
from nodeagent.errors import Refused
from tests.fakes.postfix_instance import PostfixInstance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")
KEEPALIVED = """\
global_defs {
    router_id node_a
}
vrrp_script answers {
    script "/bin/true"
    interval %s
}
"""


def seal(version: int, *files: ConfigFile) -> ConfigBundle:
    """Return a bundle with its hash."""
    return ConfigBundle(version=version, sha256=files_sha256(files), files=files)


class Relay:
    """A Postfix and the config files over it."""

    def __init__(self, postfix: PostfixInstance, state: Path) -> None:
        self.postfix = postfix
        self.files = ConfigFiles(postfix.root, state, postfix.queue, smtp_port=postfix.port)
        self.main = (postfix.config / "main.cf").read_text()

    def bundle(self, version: int, extra: str = "", keepalived: str | None = None) -> ConfigBundle:
        """Return a bundle: the instance's own main.cf, one table, and what a test adds."""
        table = "lmdb:$config_directory/relay/transport"
        files = [
            ConfigFile(
                path="/etc/postfix/main.cf",
                content=f"{self.main}transport_maps = {table}\n{extra}",
            ),
            ConfigFile(
                path="/etc/postfix/relay/transport",
                content=f"example.com smtp:[127.0.0.1]:{self.postfix.next_hop}\n",
                mode="0640",
            ),
        ]
        if keepalived is not None:
            files.append(ConfigFile(path="/etc/keepalived/keepalived.conf", content=keepalived))
        return seal(version, *files)

    def banner(self) -> str:
        """Return what the server says of itself."""
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=10) as client:
            return client.ehlo()[1].decode()

    def snapshot(self) -> dict[str, bytes]:
        """Return every file below the config directory."""
        return {
            str(path): path.read_bytes()
            for path in sorted(self.postfix.config.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def relay(tmp_path_factory, tmp_path) -> Iterator[Relay]:
    """Run a Postfix with the config it came with."""
    instance = PostfixInstance(tmp_path_factory.mktemp("postfix"))
    try:
        instance.start()
        yield Relay(instance, tmp_path)
    finally:
        instance.stop()


def test_a_good_version_goes_live_and_the_next_replaces_it(relay, tmp_path):
    """Tables are compiled, the server reloads, and the record says what is live."""
    assert relay.files.live_version() is None
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    assert "SIZE 1000000" in relay.banner()
    assert relay.files.live_version() == 1
    assert time.time() - (relay.postfix.config / "main.cf").stat().st_mtime > 2, "Postfix waits"
    assert (relay.postfix.config / "relay/transport.lmdb").exists()
    assert (relay.postfix.config / "relay/transport").stat().st_mode & 0o777 == 0o640
    relay.files.apply(relay.bundle(2, "message_size_limit = 2000000\n"))
    assert "SIZE 2000000" in relay.banner()
    assert relay.files.live_version() == 2
    started = ConfigFiles(relay.postfix.root, tmp_path, relay.postfix.queue, relay.postfix.port)
    assert started.live_version() == 2, "a restarted agent would apply it again"


@pytest.mark.parametrize(
    "extra",
    [
        "message_size_limit = nonsense\n",
        "no_such_parameter = 1\n",
        "smtpd_relay_restrictions = $undefined_thing_{\n",
    ],
)
def test_what_postfix_does_not_like_stays_off_the_node(relay, extra):
    """P6: nothing on disk changes, and the reason names the program that objects."""
    relay.files.apply(relay.bundle(1))
    before = relay.snapshot()
    with pytest.raises(Refused, match=r"postconf|postfix"):
        relay.files.apply(relay.bundle(2, extra))
    assert relay.snapshot() == before
    assert relay.files.live_version() == 1
    assert relay.banner()


def test_a_bundle_that_does_not_match_its_hash_stays_off_the_node(relay):
    """Damaged in the database or on its way, however valid it looks."""
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    before = relay.snapshot()
    other = relay.bundle(2, "message_size_limit = 2000000\n")
    with pytest.raises(Refused, match="version 2 does not match its own hash"):
        relay.files.apply(other.model_copy(update={"sha256": relay.bundle(2).sha256}))
    assert relay.snapshot() == before
    assert relay.files.live_version() == 1


def test_what_keepalived_does_not_like_stays_off_the_node(relay):
    """A config that passes Postfix but not `keepalived -t` is refused whole."""
    relay.files.apply(relay.bundle(1, keepalived=KEEPALIVED % 51))
    with pytest.raises(Refused, match="keepalived -t"):
        relay.files.apply(relay.bundle(2, "message_size_limit = 5000\n", KEEPALIVED % "x"))
    assert "SIZE 5000" not in relay.banner()
    assert (relay.postfix.root / "etc/keepalived/keepalived.conf").read_text() == KEEPALIVED % 51


def test_a_server_that_does_not_come_back_gets_its_old_files_again(relay):
    """Valid to every checker, dead on the wire: the swap is undone, from the first version on."""
    before = relay.snapshot()
    silent = f"127.0.0.1:{relay.postfix.port} inet n - n - - discard\n"
    master = (relay.postfix.config / "master.cf").read_text()
    bad = relay.bundle(1)
    lines = [line for line in master.splitlines() if "smtpd" not in line]
    files = (
        *bad.files,
        ConfigFile(path="/etc/postfix/master.cf", content="\n".join([*lines, silent])),
    )
    with pytest.raises(Refused, match="did not answer"):
        relay.files.apply(seal(1, *files))
    restored = relay.snapshot()
    assert {path: restored[path] for path in before} == before
    assert relay.files.live_version() is None
    assert relay.banner()


def test_a_disk_that_fails_in_the_middle_of_a_swap_leaves_the_old_files(relay):
    """P6: a table of the new version beside the main.cf of the old one is neither of them."""
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    before = {name: text for name, text in relay.snapshot().items() if not name.endswith("lmdb")}
    table = ConfigFile(path="/etc/postfix/relay/transport", content="example.net discard:\n")
    (relay.postfix.root / "etc/zz").write_text("a file where the next one wants a directory")
    blocked = ConfigFile(path="/etc/zz/blocked", content="x")
    files = (relay.bundle(2).files[0], table, blocked)
    with pytest.raises(OSError, match="zz"):
        relay.files.apply(seal(2, *files))
    after = relay.snapshot()
    assert {name: after[name] for name in before} == before
    found = subprocess.run(
        ["postmap", "-q", "example.net", f"lmdb:{relay.postfix.config}/relay/transport"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
    assert relay.files.live_version() == 1
    (relay.postfix.root / "etc/zz").unlink()
    relay.files.apply(seal(2, *files))
    assert relay.files.live_version() == 2


def test_a_file_of_a_user_whom_the_host_does_not_know_is_refused(relay):
    """One sentence for the operator, and nothing has changed."""
    before = relay.snapshot()
    odd = ConfigFile(path="/etc/postfix/relay/odd", content="x\n", owner="no-such-user")
    with pytest.raises(Refused, match="This host has no user 'no-such-user'"):
        relay.files.apply(seal(1, *relay.bundle(1).files, odd))
    assert relay.snapshot() == before
    assert relay.files.live_version() is None


def with_protocols(relay: Relay, version: int, *more: ConfigFile) -> ConfigBundle:
    """Return a bundle that wants another `inet_protocols` than Postfix was started with."""
    main = relay.main.replace("inet_protocols = ipv4", "inet_protocols = all")
    return seal(version, ConfigFile(path="/etc/postfix/main.cf", content=main), *more)


def test_a_reload_keeps_the_master_and_another_protocol_needs_a_new_one(relay):
    """postconf(5): inet_protocols takes a stop and a start, everything else a reload."""
    postfix = Postfix(relay.postfix.queue, relay.postfix.config)
    first = postfix.master_pid()
    groups = control_groups.paths_of(first)
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    assert postfix.master_pid() == first
    relay.postfix.let_postfix_in()
    relay.files.apply(with_protocols(relay, 2))
    second = postfix.master_pid()
    assert second not in {None, first}
    assert {str(control_groups.paths_of(pid)) for pid in (second, *postfix.pids())} == {str(groups)}
    relay.files.apply(with_protocols(relay, 3))
    assert postfix.master_pid() == second
    assert "stop and start Postfix" not in (relay.postfix.root / "mail.log").read_text()
    assert relay.banner()


def test_what_does_not_come_back_from_a_restart_gets_its_old_files_again(relay):
    """The way back is a restart too: the master runs with what the old files say."""
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    before = relay.snapshot()
    line = f"127.0.0.1:{relay.postfix.port} inet n - n - - no_such_daemon\n"
    broken = ConfigFile(path="/etc/postfix/master.cf", content=line)
    relay.postfix.let_postfix_in()
    with pytest.raises(Refused, match=r"postfix|Postfix"):
        relay.files.apply(with_protocols(relay, 2, broken))
    assert {path: text for path, text in relay.snapshot().items() if path in before} == before
    assert "SIZE 1000000" in relay.banner()
    assert relay.files.live_version() == 1


def test_only_a_process_that_has_read_the_new_files_counts_as_an_answer(relay):
    """One that ran before the reload greets as well, with the old ones."""
    postfix = Postfix(relay.postfix.queue, relay.postfix.config)
    assert relay.banner()
    refused = ""
    for _ in range(5):  # one that is busy with our last look has the next one answered by another
        before = postfix.pids()
        try:
            wait_for_server(relay.postfix.port, before, within_s=0.5)
        except Refused as error:
            refused = str(error)
            break
    assert "did not answer within 0.5 s" in refused
    postfix.reload()
    wait_for_server(relay.postfix.port, before)


def test_a_supervised_postfix_is_started_again_by_its_supervisor(relay):
    """`postfix start-fg`: a second one of ours would only be in its way."""
    config = relay.postfix.config
    subprocess.run(["postfix", "-c", str(config), "stop"], check=True, capture_output=True)
    loop = 'while :; do postfix -c "$0" start-fg; sleep 0.2; done'
    with subprocess.Popen(["sh", "-c", loop, str(config)], start_new_session=True) as supervisor:
        try:
            postfix = Postfix(relay.postfix.queue, config)
            first = wait_for_master(postfix)
            relay.postfix.let_postfix_in()
            postfix.restart()
            second = wait_for_master(postfix)
            assert second != first
            assert parent_of(second) != 1
        finally:
            supervisor.kill()
            os.killpg(supervisor.pid, signal.SIGTERM)


def test_whoever_starts_postfix_first_has_started_it(relay, tmp_path, monkeypatch):
    """Somebody else's master is as good as ours, and comes back in the same control groups."""
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    twice = (
        f'#!/bin/sh\nPATH={os.environ["PATH"]}\n[ "$3" != start ] || postfix "$@"\npostfix "$@"\n'
    )
    (elsewhere / "postfix").write_text(twice)
    (elsewhere / "postfix").chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere), prepend=":")
    postfix = Postfix(relay.postfix.queue, relay.postfix.config)
    first = wait_for_master(postfix)
    groups = control_groups.paths_of(first)
    relay.postfix.let_postfix_in()
    postfix.restart()
    second = wait_for_master(postfix)
    assert second != first
    assert control_groups.paths_of(second) == groups


def wait_for_master(postfix: Postfix) -> int:
    """Return the pid of the running master, waiting for it."""
    until_s = time.monotonic() + 20
    while (pid := postfix.master_pid()) is None:
        assert time.monotonic() < until_s, "no master"
        time.sleep(0.02)
    return pid


def parent_of(pid: int) -> int:
    """Return the parent of a process (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_swap_cut_off_by_a_crash_is_undone_at_the_next_start(relay, tmp_path):
    """Half of version 2 on disk, version 1 on record: version 1 it is."""
    relay.files.apply(relay.bundle(1, "message_size_limit = 1000000\n"))
    half = relay.bundle(2, "message_size_limit = 2000000\n")
    (tmp_path / "config/swapping.json").write_text(half.model_dump_json())
    (relay.postfix.config / "main.cf").write_text(half.files[0].content)
    relay.files.recover()
    shown = subprocess.run(
        ["postconf", "-c", str(relay.postfix.config), "-h", "message_size_limit"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "1000000"
    assert not (tmp_path / "config/swapping.json").exists()
