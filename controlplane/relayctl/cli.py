"""`relayctl`: all commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from controlplane.relayctl import (
    account_commands,
    config_commands,
    list_commands,
    node_commands,
    operate_commands,
    policy_commands,
    queue_commands,
    session_commands,
    setup_commands,
    ssh_commands,
    trace_commands,
    user_commands,
)
from controlplane.relayctl import mail_commands as mail
from controlplane.relayctl.errors import CtlError
from controlplane.relayctl.output import print_error

INTERRUPTED = 130

HELP = """Operate a Mail-Relay HA cluster through its control plane.

Every command prints JSON with --json.

Environment, before the file that login writes (RELAYCTL_CONFIG): RELAYCTL_URL, RELAYCTL_TOKEN \
(of a session, or an API token), \
RELAYCTL_CA (PEM file), RELAYCTL_SERVER_NAME (the name in the certificate, where the URL has \
another), RELAYCTL_FINGERPRINT (SHA-256 of the certificate).

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not logged in, 4 the control plane does not answer \
or is not the one that is trusted, 5 what was waited for did not happen.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
session_commands.register(app)
operate_commands.register(app)
app.add_typer(user_commands.users, name="users")
app.add_typer(account_commands.sessions, name="sessions")
app.add_typer(account_commands.tokens, name="tokens")
app.add_typer(account_commands.second_factor, name="second-factor")
app.add_typer(trace_commands.trace, name="trace")
app.add_typer(node_commands.nodes, name="nodes")
app.add_typer(node_commands.vips, name="vips")
setup_commands.register(ssh_commands.ssh)
app.add_typer(ssh_commands.ssh, name="ssh")
app.add_typer(queue_commands.queue, name="queue")
app.add_typer(policy_commands.policy, name="policy")
app.add_typer(mail.domains, name="domains")
app.add_typer(mail.routes, name="routes")
app.add_typer(mail.policies, name="policies")
app.add_typer(mail.networks, name="networks")
app.add_typer(list_commands.lists, name="lists")
app.add_typer(config_commands.settings, name="settings")
app.add_typer(config_commands.certificate, name="certificate")
app.add_typer(config_commands.config, name="config")


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="relayctl")
    except CtlError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run())
