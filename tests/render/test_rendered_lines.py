"""What a form shows of Postfix's files: the lines that its own setting brings, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from controlplane.core.rendered_lines import RenderedLines, lines_of, settings_lines
from controlplane.core.spec import (
    InetProtocols,
    QueueSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
)

RELAY = "/etc/postfix/relay"
MAIN = "/etc/postfix/main.cf"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (
            {"recipient_domains": (RecipientDomain(name="e.tld", next_hop="192.0.2.9"),)},
            {
                "recipient_domains.map": ("e.tld relay",),
                "transport.map": ("e.tld relay:[192.0.2.9]:25",),
            },
        ),
        (
            {"trusted_networks": ("192.0.2.0/24",)},
            {"trusted_networks.cidr": ("192.0.2.0/24 trusted",)},
        ),
        (
            {"trusted_networks": ("192.0.2.0/24", "2001:db8::/32")},
            {"trusted_networks.cidr": ("192.0.2.0/24 trusted", "2001:db8::/32 trusted")},
        ),
        ({}, {}),
    ],
)
def test_an_item_shows_its_lines_by_file(changes: dict[str, Any], shown: dict[str, Any]) -> None:
    """No mark of a difference, no heading of a file, no empty line, nothing of other settings."""
    expected = [RenderedLines(f"{RELAY}/{name}", lines) for name, lines in shown.items()]
    assert list(lines_of(changes)) == expected


def test_a_policy_shows_the_reply_that_a_sender_gets() -> None:
    """Word for word, with the code."""
    policy = SenderPolicy(domain="e.tld", action=SenderAction.BLOCKED, reply_text="Not from here.")
    (shown,) = lines_of({"sender_policies": (policy,)})
    assert any(line.endswith("550 5.7.1 Not from here.") for line in shown.lines)


def test_a_password_is_never_shown() -> None:
    """The line is there, so that its reader sees that one is used."""
    route = SenderRoute(
        sender="@e.tld", next_hop="mx.tld", username="u", password=SecretStr("hunter22")
    )
    shown = {one.path: one.lines for one in lines_of({"routes": (route,)})}
    assert shown[f"{RELAY}/sender_credentials.map"] == ("@e.tld (hidden)",)
    assert "hunter22" not in str(shown)
    assert f"{RELAY}/sender_routes.map" in shown
    assert "/etc/postfix/master.cf" in shown


@pytest.mark.parametrize(
    "changes",
    [
        {"trusted_networks": ("0.0.0.0/0",)},
        {"recipient_domains": (RecipientDomain(name="no domain"),)},
        {"queue": QueueSpec(minimal_backoff_s=-1)},
    ],
)
def test_what_is_not_valid_is_not_rendered(changes: dict[str, Any]) -> None:
    """The form's own sentence says what is wrong."""
    assert lines_of(changes) == ()
    assert settings_lines(changes) == ()


def test_all_shared_settings_are_shown_as_they_will_stand_in_main_cf() -> None:
    """Also those that are at their default: the form shows them all."""
    changes = {
        "domain": "mail.tld",
        "inet_protocols": InetProtocols.ALL,
        "message_size_limit_bytes": 1_000_000,
        "queue": QueueSpec(
            maximal_queue_lifetime_s=86400,
            bounce_queue_lifetime_s=3600,
            minimal_backoff_s=120,
            maximal_backoff_s=1200,
            queue_run_delay_s=60,
        ),
    }
    (shown,) = settings_lines(changes)
    assert shown.path == MAIN
    assert set(shown.lines) == {
        "mydomain = mail.tld",
        "inet_protocols = all",
        "message_size_limit = 1000000",
        "maximal_queue_lifetime = 86400s",
        "bounce_queue_lifetime = 3600s",
        "minimal_backoff_time = 120s",
        "maximal_backoff_time = 1200s",
        "queue_run_delay = 60s",
    }
    (plain,) = settings_lines({})
    assert [line.split()[0] for line in plain.lines] == [line.split()[0] for line in shown.lines]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"sender_default": SenderAction.BLOCKED, "sender_default_reply_text": "Ask us."},
            "550 5.7.1 Ask us.",
        ),
        ({"postmaster": "post@e.tld"}, "post@e.tld"),
    ],
)
def test_settings_with_a_file_of_their_own_show_it(changes: dict[str, Any], words: str) -> None:
    """Beside main.cf, which is shown once."""
    main, *others = settings_lines(changes)
    assert main.path == MAIN
    assert all(one.path != MAIN for one in others)
    assert any(words in line for one in others for line in one.lines)
