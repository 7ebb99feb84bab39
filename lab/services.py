"""Which services a host runs, as data: what a unit file would say of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.layout import COMMANDS, LOG_DIR_IN_HOST, POSTGRES_BIN, SEARCH_PATH
from lab.settings import Settings

_POSTGRES_DATA: Final = "/var/lib/postgresql/relay-lab"
_POSTGRES_SOCKETS: Final = "/run/postgresql"
_AS_POSTGRES: Final = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
_AGENT_ENROLLED: Final = "/var/lib/relay/ca.pem"


@dataclass(frozen=True)
class Service:
    """One supervised program; it is started again whenever it ends."""

    name: str
    argv: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()  # each runs to its end before every start
    stop: tuple[str, ...] = ()  # run at a clean shutdown in place of SIGTERM
    needs: str = ""  # not started before this path exists
    after: str = ""  # waits for this path, but not for ever
    restart_delay_s: float = 0.2
    nice: int = 0  # of the service as a whole, as CPUWeight= of its unit: -20 first, 19 last


def environment(settings: Settings) -> dict[str, str]:
    """Give what every program of a host finds in its environment."""
    found = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8", "USER": "root"}
    if settings.database == "postgres":
        found["RELAY_DATABASE_URL"] = (
            f"postgresql+psycopg://relay@/postgres?host={_POSTGRES_SOCKETS}"
        )
    return found


def services_of(host: str, settings: Settings) -> tuple[Service, ...]:
    """Give the services of a host in the order in which they start."""
    syslog = (_python("syslog", "lab.syslog"),)
    if host == "cp":
        database = (_postgres(),) if settings.database == "postgres" else ()
        return syslog + database + (_control_plane(settings),)
    if host == "sink":
        sink = (_python("sink", "lab.sink"),) if settings.has_sink else ()
        return syslog + sink
    if host == "client":
        return syslog
    return syslog + _node_services()


def _python(name: str, module: str) -> Service:
    return Service(name, (str(COMMANDS / "python"), "-m", module))


def _control_plane(settings: Settings) -> Service:
    has_database = settings.database == "postgres"
    return Service(
        "controlplane",
        (str(COMMANDS / "relay-controlplane"), "serve"),
        after=f"{_POSTGRES_SOCKETS}/.s.PGSQL.5432" if has_database else "",
    )


def _postgres() -> Service:
    as_owner = ("install", "-d", "-o", "postgres", "-g", "postgres")
    initialise = (
        f"[ -s {_POSTGRES_DATA}/PG_VERSION ] || exec {POSTGRES_BIN}/initdb"
        f" -D {_POSTGRES_DATA} -U relay --auth=trust -E UTF8 --locale=C.UTF-8"
    )
    return Service(
        "postgres",
        (
            *_AS_POSTGRES,
            f"{POSTGRES_BIN}/postgres",
            *("-D", _POSTGRES_DATA, "-k", _POSTGRES_SOCKETS),
            *("-c", "listen_addresses="),
        ),
        prepare=(
            (*as_owner, _POSTGRES_SOCKETS),
            (*as_owner, "-m", "700", _POSTGRES_DATA),
            (*_AS_POSTGRES, "sh", "-c", initialise),
        ),
    )


def _node_services() -> tuple[Service, ...]:
    return (
        Service("sshd", ("/usr/sbin/sshd", "-D", "-e")),
        Service("guard", (str(COMMANDS / "relay-guard"), "run"), nice=-10),
        Service("policy", (str(COMMANDS / "relay-policy"), "run"), nice=-3),
        Service(
            "postfix",
            ("/usr/sbin/postfix", "start-fg"),
            prepare=(("/usr/lib/postfix/configure-instance.sh", "-"),),
            stop=("/usr/sbin/postfix", "stop"),
            after="/run/relay/guard.sock",
            restart_delay_s=0.5,
        ),
        Service(
            "keepalived",
            ("/usr/sbin/keepalived", "-n", "-l", "-f", "/etc/keepalived/keepalived.conf"),
            needs="/etc/keepalived/keepalived.conf",
            after="/run/relay/guard.sock",
            restart_delay_s=1.0,
            nice=-20,
        ),
        Service("agent", (str(COMMANDS / "relay-agent"), "run"), needs=_AGENT_ENROLLED, nice=-5),
    )


def log_file(service: str) -> Path:
    """Where a service's output goes, as the host sees it."""
    return LOG_DIR_IN_HOST / f"{service}.log"
