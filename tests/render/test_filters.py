"""Which filters a real Postfix asks about whom, by the rendered main.cf."""

from __future__ import annotations

import shutil
import smtplib
import subprocess
from pathlib import Path

import pytest

from controlplane.core.render import render
from controlplane.core.spec import MilterDefault, MiltersSpec
from nodeagent.policy.model import ACCEPT, Decision, Reply, Stage, Verdict
from nodeagent.policy.places import HOLD_PORT, SEND_PORT
from tests.fakes.milter_door import DoorThread
from tests.fakes.milter_postfix import MilterPostfix
from tests.fakes.postfix_instance import free_port
from tests.render.specs import pair

pytestmark = pytest.mark.skipif(shutil.which("postfix") is None, reason="needs Postfix")

OURS = "unix:/run/relay-policy/milter.sock"
TIMES = "connect_timeout=1s, command_timeout=1s"


def lookup(directory: Path, milters: MiltersSpec, client: str) -> list[str] | None:
    """Return what Postfix finds for a client's address; None: what holds for everybody."""
    files = {file.path: file for file in render(pair(milters=milters), "node-a")}
    main_cf = files["/etc/postfix/main.cf"].content
    (directory / "main.cf").write_bytes(main_cf.encode() if isinstance(main_cf, str) else main_cf)
    (directory / "master.cf").touch()
    about = ("-c", str(directory))
    table = run("postconf", *about, "-h", "smtpd_milter_maps").stdout.strip()
    found = run("postmap", *about, "-q", client, table) if table else None
    if found is None or found.returncode:
        return None
    assert found.stderr == ""
    return [line.strip() for line in found.stdout.replace("} {", "}\n{").splitlines()]


def milter_options(service: str) -> list[str]:
    """Return what the rendered master.cf sets of milters for a service of the loopback."""
    files = {file.path: file for file in render(pair(milters=MiltersSpec(policy=True)), "node-a")}
    words = str(files["/etc/postfix/master.cf"].content).split(f"\n127.0.0.1:{service} ")[1]
    options = words.split("\n127.0.0.1:")[0].split("\npickup")[0].split()
    return [option for option in options if option.startswith("smtpd_milter")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of Postfix's programs."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("chosen", "local"),
    [
        (MilterDefault.ACCEPT, "accept"),
        (MilterDefault.QUARANTINE, "quarantine"),
        (MilterDefault.REJECT, "tempfail"),
        (MilterDefault.TEMPFAIL, "tempfail"),
    ],
)
def test_a_check_on_the_node_itself_is_greeted_whatever_the_filters_do(
    tmp_path: Path, chosen: MilterDefault, local: str
) -> None:
    """The one of keepalived has two seconds; others wait as ever, and hear what was chosen."""
    milters = MiltersSpec(policy=True, default_action=chosen)
    expected = f"{{ {OURS}, {TIMES}, default_action={local} }}"
    assert lookup(tmp_path, milters, "127.0.0.1") == [expected]
    assert lookup(tmp_path, milters, "198.51.100.11") is None


def test_local_clients_are_judged_by_every_filter(tmp_path: Path) -> None:
    """In the order in which all others are."""
    milters = MiltersSpec(policy=True, rspamd=True, clamav=True)
    found = lookup(tmp_path, milters, "127.0.0.1")
    assert found is not None
    assert [one.split(",")[0] for one in found] == [
        f"{{ {OURS}",
        "{ inet:127.0.0.1:11332",
        "{ unix:/run/clamav/clamav-milter.ctl",
    ]


def test_what_was_judged_is_not_judged_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The ways back into Postfix are on the loopback, too; all else there is judged."""
    root: Path = tmp_path_factory.mktemp("pf")  # a socket's name has to be short
    ports = {service: free_port() for service in (SEND_PORT, HOLD_PORT)}
    services = [
        f"127.0.0.1:{port} inet n - n - - smtpd "
        + " ".join(f"-o {option}" for option in milter_options(str(service)))
        for service, port in ports.items()
    ]
    socket_file = root / "milter.sock"
    patient = TIMES.replace("=1s", "=30s")
    local = f"{{ unix:{socket_file}, {patient}, default_action=tempfail }}"
    settings = (
        f"smtpd_milters = unix:{socket_file}",
        f"smtpd_milter_maps = inline:{{ {{ 127.0.0.1 = {local} }} }}",
    )
    postfix = MilterPostfix(root, settings=settings, services=tuple(services))
    with DoorThread(socket_file) as door:
        refusal = Decision(Verdict.REJECT, Reply(550, "5.7.1", "no"))
        door.policy.rule = lambda asked: refusal if asked.stage is Stage.MAIL else ACCEPT
        postfix.start()
        try:
            assert answer_to_mail(postfix.port) == "550 5.7.1 no"
            asked = len(door.policy.questions)
            assert asked
            for port in ports.values():
                assert answer_to_mail(port) == "250 2.1.0 Ok"
            assert len(door.policy.questions) == asked
        finally:
            postfix.stop()


def answer_to_mail(port: int) -> str:
    """Return what Postfix says to MAIL there."""
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=60) as client:
        client.ehlo()
        code, text = client.mail("a@x.example")
        return f"{code} {text.decode()}"


def test_without_filters_nobody_is_an_exception(tmp_path: Path) -> None:
    """The table is not there."""
    assert lookup(tmp_path, MiltersSpec(), "127.0.0.1") is None
