"""Services of a host: started in order, again when they end, each in a group of its own."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable

from lab.layout import HOSTS
from lab.services import Service, environment, services_of
from lab.settings import Settings
from tests.e2e.driver import Lab
from tests.fakes.units import UNITS, values_of
from tests.lab.probe import can_reach, until

Run = Callable[..., str]


def _names(host: str, settings: Settings) -> list[str]:
    return [service.name for service in services_of(host, settings)]


def test_the_guard_starts_before_postfix_and_both_before_the_agent() -> None:
    """A node's services stand in the order that ownership needs."""
    names = _names("node-a", Settings())
    assert names.index("guard") < names.index("postfix") < names.index("agent")


def test_postfix_waits_for_the_guard_but_not_for_ever() -> None:
    """Postfix has the guard's socket as a wish, the agent its enrolment as a condition."""
    services = {service.name: service for service in services_of("node-b", Settings())}
    assert services["postfix"].after == "/run/relay/guard.sock"
    assert services["agent"].needs
    assert services["keepalived"].needs == "/etc/keepalived/keepalived.conf"


def test_a_lab_host_shares_its_cpu_as_the_units_do() -> None:
    """A nice level is a quarter more weight (sched(7)); to within a fifth the two say the same."""
    units = {
        "guard": "relay-guard.service",
        "agent": "relay-agent.service",
        "policy": "relay-policy.service",
        "keepalived": "keepalived.service.d/relay.conf",
    }
    services = {service.name: service for service in services_of("node-a", Settings())}
    for name, unit in units.items():
        (weight,) = values_of(UNITS / unit, "CPUWeight")
        assert math.isclose(100 * 1.25 ** -services[name].nice, float(weight), rel_tol=0.2)
    assert {services[name].nice for name in services if name not in units} == {0}


def test_postgres_runs_only_where_it_was_asked_for() -> None:
    """With SQLite there is no database service; with PostgreSQL its URL is in the environment."""
    with_server = Settings(database="postgres")
    assert "postgres" not in _names("cp", Settings())
    assert _names("cp", with_server).index("postgres") < _names("cp", with_server).index(
        "controlplane"
    )
    assert "RELAY_DATABASE_URL" not in environment(Settings())
    assert environment(with_server)["RELAY_DATABASE_URL"].startswith("postgresql+psycopg://")


def test_without_a_sink_its_port_is_free() -> None:
    """--no-sink leaves no service there but the system log."""
    assert _names("sink", Settings(has_sink=False)) == ["syslog"]


def test_a_service_that_dies_is_started_again(run: Run) -> None:
    """SIGKILL to a service brings up a new one within a second or two."""
    del run
    lab = Lab()
    until(lambda: bool(lab.pids("sink", "sink")), "the sink runs")
    before = lab.pids("sink", "sink")
    os.kill(before[0], signal.SIGKILL)
    until(lambda: lab.pids("sink", "sink") not in ([], before), "a new sink runs")
    until(lambda: can_reach("client", "198.51.100.20", 25), "it answers")


def test_a_disabled_service_stays_away_until_it_is_enabled(run: Run) -> None:
    """end_for_good keeps a service from coming back; enable lets it."""
    del run
    lab = Lab()
    until(lambda: bool(lab.pids("sink", "sink")), "the sink runs")
    lab.end_for_good("sink", "sink")
    assert not can_reach("client", "198.51.100.20", 25)
    lab.enable("sink", "sink")
    until(lambda: can_reach("client", "198.51.100.20", 25), "it answers again")


def test_postfix_has_a_control_group_without_the_guard(run: Run) -> None:
    """What freezes Postfix's own group leaves the guard running."""
    del run
    lab = Lab()
    until(lambda: can_reach("node-a", "127.0.0.1", 25), "Postfix runs", 30)
    postfix, guard = set(lab.pids("node-a", "postfix")), set(lab.pids("node-a", "guard"))
    assert postfix
    assert guard
    assert not postfix & guard


def test_mail_log_lines_reach_the_mail_log(run: Run) -> None:
    """What Postfix says through syslog stands in mail.log, other facilities in syslog.log."""
    run("exec", "node-a", "--", "logger", "-p", "mail.info", "a mail line")
    run("exec", "node-a", "--", "logger", "-p", "daemon.info", "another line")
    logs = HOSTS["node-a"].logs
    until(lambda: "a mail line" in (logs / "mail.log").read_text(), "the mail line is there")
    until(lambda: "another line" in (logs / "syslog.log").read_text(), "the other is there")
    assert "another line" not in (logs / "mail.log").read_text()


def test_a_service_needs_no_more_than_a_name_and_a_command() -> None:
    """Everything else of a service has a default."""
    service = Service("x", ("true",))
    assert (service.prepare, service.stop, service.needs, service.after) == ((), (), "", "")
