"""Notifications to real receivers: what arrives, what is refused, and what nobody gets to see."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from io import StringIO

import pytest

from controlplane.errors import Invalid
from controlplane.integrations.notifications import (
    LATE,
    MOST_AT_ONCE,
    NO_PLACE,
    NOT_TAKEN,
    TAKEN,
    Channel,
    Notifier,
    describe,
)
from tests.fakes.receivers import MailServer, WebHook

TITLE, BODY = "[mail] Much mail waits", "* node-a: 2000 messages wait.\n* ümlaut <b>&amp;"


def test_a_webhook_gets_title_and_text() -> None:
    """As JSON, to the path that the URL names."""
    with WebHook().serve() as hook:
        outcome = Notifier().send(hook.url, TITLE, BODY)
    assert (outcome.is_ok, outcome.text) == (True, TAKEN)
    assert (hook.got[0]["title"], hook.got[0]["message"]) == (TITLE, BODY)
    assert hook.paths == ["/hooks/sesame"]


def test_a_mail_has_subject_and_text() -> None:
    """To the address of the URL, readable as plain text too."""
    with MailServer().serve() as server:
        outcome = Notifier().send(server.url, TITLE, BODY)
    assert (outcome.is_ok, server.recipients) == (True, ["ops@b.test"])
    mail = server.got[0]
    assert mail["subject"] == TITLE
    text = "".join(str(part.get_content()) for part in mail.walk() if not part.is_multipart())
    assert "2000 messages wait." in text


def test_a_status_that_is_no_success_is_told() -> None:
    """The receiver's number, none of its words."""
    with WebHook(status=503).serve() as hook:
        outcome = Notifier().send(hook.url, TITLE, BODY)
    assert (outcome.is_ok, outcome.text) == (False, "It answered with the status 503.")
    assert len(hook.got) == 1


def test_mail_that_is_refused_is_told() -> None:
    """The server said no."""
    with MailServer(answer="550 no").serve() as server:
        outcome = Notifier().send(server.url, TITLE, BODY)
    assert (outcome.is_ok, outcome.text, server.got) == (False, NOT_TAKEN, [])


def test_nobody_listens() -> None:
    """One sentence, no exception."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (
        f"json://127.0.0.1:{port}/",
        f"mailto://127.0.0.1:{port}?from=a@b.test&to=c@d.test",
    ):
        outcome = Notifier().send(url, TITLE, BODY)
        assert (outcome.is_ok, outcome.text) == (False, NOT_TAKEN)


def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    """At the deadline, whatever it does then."""
    with WebHook(waits=threading.Event()).serve() as hook:
        assert Notifier(deadline_s=0.5).send(hook.url, TITLE, BODY) is LATE


def test_receivers_that_hang_take_a_bounded_number_of_threads() -> None:
    """Further notifications are told so at once; afterwards there is room again."""
    held = threading.Event()
    notifier = Notifier()
    with WebHook(waits=held).serve() as hook:
        begun = [notifier.begin(hook.url, TITLE, BODY) for _ in range(MOST_AT_ONCE)]
        assert notifier.send(hook.url, TITLE, BODY).text == NO_PLACE
        held.set()
        assert {one.result(60).is_ok for one in begun} == {True}
        assert notifier.send(hook.url, TITLE, BODY).is_ok


def test_who_stops_waiting_stops_nothing() -> None:
    """A request that ends does not break what is being sent."""
    held = threading.Event()
    with WebHook(waits=held).serve() as hook:
        begun = Notifier().begin(hook.url, TITLE, BODY)
        assert not begun.cancel()
        held.set()
        assert begun.result(60).is_ok


def test_redirects_are_not_followed() -> None:
    """They would lead where no administrator said."""
    with WebHook().serve() as inner, WebHook(status=302).serve() as outer:
        outer.location = f"http://127.0.0.1:{inner.port}/secret"
        outcome = Notifier().send(outer.url, TITLE, BODY)
    assert (outcome.is_ok, inner.paths) == (False, [])


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """Give all that is logged in this process, to the finest detail."""
    root, text = logging.getLogger(), StringIO()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


def test_no_log_and_no_answer_repeats_a_url(logged: StringIO) -> None:
    """Apprise's own warnings hold parts of it, and so do those of its HTTP client."""
    with WebHook(status=404).serve() as hook:
        logging.getLogger("relay").debug("something is heard")
        url = hook.url.replace("json://", "json://user:hunter2@") + "?+X-Key=hunter3"
        outcome = Notifier().send(url, TITLE, BODY)
        with pytest.raises(Invalid) as refused:
            describe("slack://hunter2/hunter3")
    assert "something is heard" in logged.getvalue()
    said = logged.getvalue() + outcome.text + refused.value.detail
    for secret in ("hunter", "sesame"):
        assert secret not in said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailtos://u:hunter2@example.com?to=a@b.test", Channel("E-Mail", "example.com")),
        ("mailto://u:p@example.com?smtp=mx.b.test&to=a@b.test", Channel("E-Mail", "mx.b.test")),
        ("jsons://hooks.example.com/x", Channel("JSON", "hooks.example.com")),
        ("ntfys://push.example.com/topic", Channel("ntfy", "push.example.com")),
        ("ntfy://topic", Channel("ntfy", "")),
        ("gotify://push.example.com/abcdefghijklm", Channel("Gotify", "push.example.com")),
        ("matrixs://u:p@m.example.com/#ops", Channel("Matrix", "m.example.com")),
        ("mmosts://chat.example.com/abcdefghij", Channel("Mattermost", "chat.example.com")),
        ("rockets://u:p@chat.example.com/#ops", Channel("Rocket.Chat", "chat.example.com")),
        ("signal://s.test:9922/+15551234567/+15551234568", Channel("Signal API", "s.test")),
        ("tgram://123456789:" + "A" * 35 + "/12345", Channel("Telegram", "")),
        ("discord://123456/abcdef", Channel("Discord", "")),
        ("https://discord.com/api/webhooks/123456/abcdef", Channel("Discord", "")),
        ("pover://" + "u" * 30 + "@" + "a" * 30, Channel("Pushover", "")),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", Channel("Slack", "")),
    ],
)
def test_the_usual_services_are_known(url: str, shown: Channel) -> None:
    """Service and host are shown; nothing else of the URL is."""
    assert describe(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "syslog://",
        "dbus://",
        "exec://id",
        "windows://",
        "http://127.0.0.1/",
        "https://example.com/hook",
        "apprise://example.com/token",
        "json",
        "jsons://",
        "",
        "json://exa mple.com/",
        "json://example.com/\nx",
        "json://[::1/",
        "json://example.com/" + "x" * 2000,
        "slack://nonsense",
        "discord://1/2?template=/etc/passwd",
        "mailto://u:p@example.com?pgp=sign",
        "mailto://u:p@example.com?pgpprv=/etc/shadow",
        "json://example.com/?redirect=yes",
        "json://example.com/?ReDirect=yes",
        "json://example.com/?%72to=9999",
        "json://example.com/?retry=99",
        "ntfy://example.com/t?attach=http://169.254.169.254/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """Services that act on this host, options that read files or wait for ever, and nonsense."""
    with pytest.raises(Invalid) as refused:
        describe(url)
    assert set(refused.value.fields) == {"url"}
    assert refused.value.detail.endswith(".")


LINK_LOCAL = (
    *("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1"),
    *("0.0.0.0", "[::]"),
)


@pytest.mark.parametrize("host", LINK_LOCAL)
@pytest.mark.parametrize("scheme", ["json://", "ntfy://", "mailto://u:p@"])
def test_link_local_addresses_are_refused(scheme: str, host: str) -> None:
    """There the clouds hand out credentials."""
    with pytest.raises(Invalid):
        describe(f"{scheme}{host}/topic")


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.16689662"])
def test_other_spellings_of_an_address_are_refused_when_it_comes_to_it(host: str) -> None:
    """The name is resolved as it will be, just before sending."""
    outcome = Notifier().send(f"json://{host}/", TITLE, BODY)
    assert not outcome.is_ok
    assert "link-local" in outcome.text


def test_a_name_that_does_not_exist_is_told() -> None:
    """It may be a slip of the pen, or the DNS that fails."""
    outcome = Notifier().send("json://nobody.invalid/", TITLE, BODY)
    assert outcome.text == "The host nobody.invalid has no address."
