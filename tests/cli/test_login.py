"""Logging in: trust, tokens on disk, environment, and what goes wrong."""

from __future__ import annotations

import json
import stat

import pytest

from controlplane.store.users import FIRST_PASSWORD
from controlplane.tls import ca_pem
from nodeagent.core.agent_api import TLS_SERVER_NAME
from tests.api.conftest import PASSWORD
from tests.cli.conftest import Operator, Served


def test_the_first_login_asks_for_a_new_password(stranger: Operator, served: Served) -> None:
    """Nothing works until passwd, which needs no other command before it."""
    stranger.set(RELAYCTL_PASSWORD=FIRST_PASSWORD, RELAYCTL_NEW_PASSWORD=PASSWORD)
    first = stranger("login", "--url", served.url, "--fingerprint", served.fingerprint)
    assert "relayctl passwd" in first.err
    assert stranger("status").code == 1
    assert stranger("passwd").code == 0
    assert stranger("status").code == 0


def test_the_profile_is_private(relayctl: Operator) -> None:
    """Only its owner can read the token."""
    assert stat.S_IMODE(relayctl.config.stat().st_mode) == 0o600
    assert json.loads(relayctl.config.read_text())["token"]


def test_the_token_is_never_printed(relayctl: Operator) -> None:
    """Neither for people nor in JSON."""
    token = json.loads(relayctl.config.read_text())["token"]
    shown = relayctl("login")
    fresh = json.loads(relayctl.config.read_text())["token"]
    assert shown.code == 0
    assert token not in shown.out + shown.err
    assert fresh not in relayctl("login", "--json").out


def test_logging_out_forgets_the_session(relayctl: Operator) -> None:
    """The next command says what to do, with exit code 3."""
    assert relayctl.json("logout") == {"user": None}
    refused = relayctl("status")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == "relayctl: Log in first: relayctl login.\n"


def test_without_a_url_the_way_in_is_told(stranger: Operator) -> None:
    """The very first command of a new operator."""
    refused = stranger("status")
    assert refused.code == 3
    assert "relayctl login --url" in refused.err


def test_another_certificate_is_refused_before_a_token_is_sent(relayctl: Operator) -> None:
    """A changed certificate is exit code 4, and says what it can mean."""
    relayctl.set(RELAYCTL_FINGERPRINT="ab" * 32)
    refused = relayctl("status")
    assert refused.code == 4
    assert "another certificate than the pinned one" in refused.err


def test_a_certificate_that_nobody_vouches_for_is_refused(
    relayctl: Operator, served: Served
) -> None:
    """Without a pin the system's own CAs decide."""
    token = json.loads(relayctl.config.read_text())["token"]
    relayctl.config.unlink()
    relayctl.set(RELAYCTL_URL=served.url, RELAYCTL_TOKEN=token)
    refused = relayctl("status")
    assert refused.code == 4
    assert "nothing here vouches for" in refused.err


def test_the_own_ca_can_be_trusted_by_name(relayctl: Operator, served: Served) -> None:
    """With the CA file and the agents' server name no fingerprint is needed."""
    token = json.loads(relayctl.config.read_text())["token"]
    ca = relayctl.config.with_name("ca.pem")
    ca.write_text(ca_pem(served.state_dir))
    relayctl.config.unlink()
    relayctl.set(
        RELAYCTL_URL=served.url,
        RELAYCTL_TOKEN=token,
        RELAYCTL_CA=str(ca),
        RELAYCTL_SERVER_NAME=TLS_SERVER_NAME,
    )
    assert relayctl("status").code == 0


def test_an_unknown_certificate_is_not_trusted_silently(stranger: Operator, served: Served) -> None:
    """Where nobody can be asked, login names the fingerprint and stops."""
    refused = stranger("login", "--url", served.url)
    assert refused.code == 2
    assert served.fingerprint in refused.err


def test_the_token_of_one_control_plane_is_not_sent_to_another(relayctl: Operator) -> None:
    """Another URL in the environment means another profile."""
    relayctl.set(RELAYCTL_URL="https://127.0.0.1:1")
    assert relayctl("status").code == 3


def test_a_wrong_password_is_exit_code_3(stranger: Operator, served: Served) -> None:
    """With the control plane's own sentence."""
    stranger.set(RELAYCTL_PASSWORD="wrong")
    refused = stranger("login", "--url", served.url, "--fingerprint", served.fingerprint)
    assert refused.code == 3
    assert "User name or password is wrong" in refused.err


def test_a_weak_password_is_refused_with_its_reason(relayctl: Operator) -> None:
    """The old session stays."""
    relayctl.set(RELAYCTL_NEW_PASSWORD="short")
    refused = relayctl("passwd")
    assert (refused.code, "at least 10" in refused.err) == (1, True)
    assert relayctl("status").code == 0


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("http://127.0.0.1:8443", 2, "https://HOST:8443"),
        ("https://127.0.0.1:1", 4, "does not answer"),
        ("https://127.0.0.1:99999", 2, "no usable host or port"),
    ],
)
def test_a_url_that_leads_nowhere(stranger: Operator, url: str, code: int, words: str) -> None:
    """One sentence, and the exit code says whose fault it is."""
    stranger.set(RELAYCTL_PASSWORD="x")
    refused = stranger("login", "--url", url, "--fingerprint", "ab" * 32)
    assert refused.code == code
    assert words in refused.err


def test_a_damaged_profile_is_one_sentence(relayctl: Operator) -> None:
    """Never a traceback."""
    relayctl.config.write_text("{")
    refused = relayctl("status")
    assert refused.code == 2
    assert "is damaged" in refused.err


def test_wrong_usage_is_exit_code_2(relayctl: Operator) -> None:
    """As everywhere."""
    assert relayctl("nodes", "add").code == 2
    assert relayctl("no-such-command").code == 2
    assert relayctl("login", "--fingerprint", "zz").code == 2
    assert relayctl("--help").code == 0
