"""A host is set up over SSH: confirmed key, every step on a real sshd, failures, cancel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.node_setup.recipe import PACKAGES, SetupStep
from controlplane.store import agents
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.ssh_wire import fingerprint
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.postfix_instance import free_port
from tests.fakes.relay_host import BOOKWORM, RelayHost
from tests.fakes.reports import store_report

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")

SSH = "/api/v1/ssh"
LIMIT_S = 180.0
STAND_IN_AGENT = '#!/bin/sh\necho "enrolling with $5"\n'


@pytest.fixture
def host(
    tmp_path: Path, app: FastAPI, pair: TestClient, sqlite_database: Database
) -> Iterator[RelayHost]:
    """Run node-a's host on the loopback, where the API would put no node."""
    del pair
    made = RelayHost(tmp_path / "h")
    made.start()
    with sqlite_database.write() as session:
        row = session.get_one(NodeRow, "node-a")
        row.address, row.ssh_port = "127.0.0.1", made.port
        session.add(row)
    Path(made.recipe.agent).write_text(STAND_IN_AGENT)
    app.state.recipe = made.recipe
    app.state.settings = app.state.settings.model_copy()
    (app.state.settings.state_dir / "tls").mkdir(exist_ok=True)
    yield made
    made.stop()


@pytest.fixture
def body(host: RelayHost) -> dict[str, Any]:
    """Give what logs in there."""
    own = fingerprint((host.root / "host_key.pub").read_text())
    return {"host_key": own, "private_key": host.private_key(), "url": "https://192.0.2.1:8443"}


def start(client: TestClient, body: dict[str, Any], node: str = "node-a") -> int:
    """Ask for a setup; return its number."""
    answer = client.post(f"{SSH}/{node}/setups", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def read(client: TestClient, number: int) -> dict[str, Any]:
    """Return a setup as it is now."""
    setup: dict[str, Any] = client.get(f"{SSH}/setups/{number}").json()
    return setup


def wait(
    client: TestClient, number: int, is_reached: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the setup once it is so far."""
    until_s = time.monotonic() + LIMIT_S
    while not is_reached(setup := read(client, number)):
        assert time.monotonic() < until_s, setup
        time.sleep(0.05)
    return setup


def ended(setup: dict[str, Any]) -> bool:
    """Tell whether a setup is over."""
    return setup["finished_at"] is not None


def fail(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    """Run a setup that fails; return its last line."""
    setup = wait(client, start(client, body), ended)
    assert setup["is_ok"] is False
    line: dict[str, Any] = setup["lines"][-1]
    assert (line["ok"], line["text"]) == (False, setup["text"])
    assert all(one["ok"] for one in setup["lines"][:-1])
    return line


class TestWholeWay:
    """Each step on a real host with stand-ins for what would change this machine."""

    def test_from_the_shown_key_to_the_first_report(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """What the guide says is done, in its order; the agent's report ends it."""
        shown = pair.post(f"{SSH}/node-a/host-key").json()
        assert (shown["fingerprint"], shown["type"]) == (body["host_key"], "ssh-ed25519")
        assert host.asked() == []
        host.has_packages(*(name for name in PACKAGES if name not in {"postfix", "keepalived"}))
        number = start(pair, body)
        wait(
            pair,
            number,
            lambda setup: setup["lines"][-1]["step"] == "report" if setup["lines"] else False,
        )
        with sqlite_database.write() as session:
            store_report(session, "node-a", NodeReport(role=Role.STANDBY))
        setup = wait(pair, number, ended)
        assert setup["is_ok"] is True, setup
        assert [line["step"] for line in setup["lines"]] == [step.value for step in SetupStep]
        said = {line["step"]: line["text"] for line in setup["lines"]}
        assert said["packages"] == "Installed: postfix, keepalived."
        assert said["system"] == "Debian 12, as root."
        asked = [line for line in host.asked() if line.startswith(("apt-get", "systemctl"))]
        assert asked == [
            "apt-get update",
            "apt-get install --yes postfix keepalived",
            "systemctl daemon-reload",
            "systemctl enable --now relay-guard",
            "systemctl enable --now postfix keepalived relay-keepalived.path",
            "systemctl restart postfix@-",
            "systemctl enable --now relay-policy relay-agent",
        ]
        assert "Local only" in (host.root / "debconf").read_text()
        for name, content in host.recipe.unit_files().items():
            assert (Path(host.recipe.unit_directory) / name).read_bytes() == content

    def test_no_secret_is_shown_or_stored(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """Neither the key nor the token, though the host repeats it."""
        Path(host.recipe.agent).write_text('#!/bin/sh\necho "with $5"; exit 1\n')
        line = fail(pair, body)
        assert (line["step"], line["output"]) == ("enrol", ["with (hidden)"])
        with sqlite_database.read() as session:
            rows = session.execute(text("SELECT * FROM node_setups")).all()
            rows += session.execute(text("SELECT * FROM audit")).all()
        assert "PRIVATE KEY" not in repr(rows)
        actions = [row["action"] for row in pair.get("/api/v1/audit").json()]
        assert {"node.setup", "node.enrolment-token"} <= set(actions)

    def test_a_user_with_sudo(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any]
    ) -> None:
        """From there on every command is put behind it."""
        (host.root / "uid").write_text("1000\n")
        host.has_packages()
        (host.root / "apt-code").write_text("100")
        assert (
            fail(pair, body)["text"] == "`apt-get update` ended with 100: Reading package lists..."
        )
        assert "sudo -n apt-get update" in host.asked()

    def test_the_program_comes_as_a_wheel(
        self, app: FastAPI, pair: TestClient, host: RelayHost, body: dict[str, Any]
    ) -> None:
        """With the versions that lie beside it; pip is the host's own and says what is wrong."""
        Path(host.recipe.agent).unlink()
        wheel = host.root / "mail_relay_ha-0.1.0-py3-none-any.whl"
        wheel.write_bytes(b"no wheel")
        wheel.with_name("constraints.txt").write_text("pydantic==2\n")
        app.state.recipe = type(host.recipe)(**{**vars(host.recipe), "wheel": wheel})
        line = fail(pair, body)
        assert line["step"] == "program"
        assert "pip install` ended with 1" in line["text"]
        place = Path(host.recipe.prefix) / "wheel"
        assert (place / wheel.name).read_bytes() == b"no wheel"
        assert (place / "constraints.txt").read_text() == "pydantic==2\n"


class TestFailures:
    """Each is one sentence at its step, and nothing after it is done."""

    def test_another_key_than_the_confirmed_one(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any]
    ) -> None:
        """Nothing is sent: sshd hears of no login."""
        line = fail(pair, {**body, "host_key": f"SHA256:{'A' * 43}"})
        assert line["step"] == "connect"
        assert "not the one that was confirmed; nothing was sent to it." in line["text"]
        assert "publickey" not in (host.root / "sshd.log").read_text()

    @pytest.mark.parametrize(
        ("file", "content", "step", "words"),
        [
            ("os-release", "ID=ubuntu\n", "system", "The host runs ubuntu; Debian 12 is needed."),
            ("os-release", BOOKWORM.replace("12", "11"), "system", "debian 11; Debian 12 is"),
            ("os-release", "", "system", "The host runs unknown; Debian 12 is needed."),
        ],
    )
    def test_a_host_that_is_not_supported(
        self,
        pair: TestClient,
        host: RelayHost,
        body: dict[str, Any],
        *,
        file: str,
        content: str,
        step: str,
        words: str,
    ) -> None:
        """Looked at before anything is changed."""
        (host.root / file).write_text(content)
        line = fail(pair, body)
        assert line["step"] == step
        assert words in line["text"]
        assert host.asked() == []

    def test_a_user_who_is_not_root(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any]
    ) -> None:
        """And whose sudo asks for a password."""
        (host.root / "uid").write_text("1000\n")
        (host.root / "sudo-asks").touch()
        line = fail(pair, body)
        assert line["text"] == "root is not root and sudo asks for a password; log in as root."

    def test_a_program_that_is_missing(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any]
    ) -> None:
        """Without a wheel to bring along."""
        Path(host.recipe.agent).unlink()
        line = fail(pair, body)
        assert (line["step"], "RELAY_NODE_WHEEL" in line["text"]) == ("program", True)

    def test_a_host_that_is_not_there(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """The key cannot be shown, and a setup ends at its first step."""
        del host
        with sqlite_database.write() as session:
            session.execute(text("UPDATE nodes SET ssh_port = :port"), {"port": free_port()})
        shown = pair.post(f"{SSH}/node-a/host-key")
        assert (shown.status_code, "does not answer" in shown.json()["detail"]) == (409, True)
        assert fail(pair, body)["step"] == "connect"

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"private_key": None}, "password"),
            ({"password": "secret"}, "password"),
            ({"private_key": "no key"}, "private_key"),
            ({"host_key": "SHA256:short"}, "host_key"),
            ({"user": "root; id"}, "user"),
            ({"url": "http://192.0.2.1"}, "url"),
            ({"url": "https://192.0.2.1/ --x"}, "url"),
        ],
    )
    def test_bad_input_starts_nothing(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], change: Any, *, field: str
    ) -> None:
        """One sentence beside the field."""
        answer = pair.post(f"{SSH}/node-a/setups", json={**body, **change})
        assert answer.status_code == 422
        assert field in answer.json()["fields"], answer.text
        assert "secret" not in answer.text
        assert pair.get(f"{SSH}/setups/1").status_code == 404
        assert host.asked() == []

    def test_a_node_that_is_enrolled_or_unknown(
        self, pair: TestClient, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """A live node would be cut off by an enrolment."""
        enrol_agents(pair, sqlite_database, "node-a")
        refused = pair.post(f"{SSH}/node-a/setups", json=body)
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "node-a is enrolled already; revoke its key first.",
        )
        assert pair.post(f"{SSH}/node-z/setups", json=body).status_code == 404


class TestCancel:
    """An operator who does not want it any more, and a process that is gone."""

    def test_a_running_command_is_left_and_nothing_more_is_done(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """What it writes is shown while it runs; a second setup waits for its end."""
        Path(host.recipe.agent).write_text("#!/bin/sh\necho slowly; exec sleep 600\n")
        number = start(pair, body)
        wait(
            pair,
            number,
            lambda one: bool(one["lines"]) and one["lines"][-1]["output"] == ["slowly"],
        )
        assert pair.post(f"{SSH}/node-a/setups", json=body).status_code == 409
        assert pair.delete(f"{SSH}/setups/{number}").json()["is_cancelled"] is True
        setup = wait(pair, number, ended)
        assert setup["text"] == (
            "The setup was cancelled; what was done on the host so far stays there."
        )
        assert setup["lines"][-1]["step"] == "enrol"
        assert "systemctl enable --now relay-agent" not in host.asked()
        late = pair.delete(f"{SSH}/setups/{number}")
        assert (late.status_code, late.json()["detail"]) == (409, "Setup 1 has ended already.")
        with sqlite_database.read() as session:
            assert session.get(AgentRow, "node-a") is None or not agents.is_active(
                session.get_one(AgentRow, "node-a")
            )

    def test_a_setup_whose_process_is_gone_is_lost(
        self, pair: TestClient, host: RelayHost, body: dict[str, Any], sqlite_database: Database
    ) -> None:
        """How it ended is unknown, and another may be started."""
        number = start(pair, body)
        wait(pair, number, lambda setup: setup["lines"] != [])
        pair.delete(f"{SSH}/setups/{number}")
        wait(pair, number, ended)
        with sqlite_database.write() as session:
            session.execute(
                text("UPDATE node_setups SET finished_at = NULL, alive_at = alive_at - 61")
            )
        assert read(pair, number)["is_lost"] is True
        Path(host.recipe.agent).unlink()
        assert start(pair, body) == number + 1
        wait(pair, number + 1, ended)
