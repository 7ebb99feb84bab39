"""Lines of Postfix's log become entries: what each says, and what no stranger can make it say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core.postfix_log import Clock, parse_line
from nodeagent.core.trace_wire import TraceEntry, TraceKind

CLOCK = Clock(datetime(2026, 11, 21, 12, tzinfo=UTC), UTC)
ID = "4jWm9r02mpzJ9Rq"
CHILD = "4jWm9r0q5DzJ9Kb"

# As Postfix 3.7.11 wrote them, but for the names.
GOLDEN: list[tuple[str, dict[str, Any] | None]] = [
    ("smtpd[9]: connect from localhost[127.0.0.1]", {"kind": "connect"}),
    (
        "smtpd[9]: disconnect from mx[192.0.2.1] ehlo=1 mail=3 rcpt=5/7 quit=1 commands=13/15",
        {"kind": "disconnect", "client_address": "192.0.2.1"},
    ),
    ("smtpd[9]: lost connection after CONNECT from x[192.0.2.1]", {"kind": "disconnect"}),
    (
        (
            f"smtpd[9]: {ID}: client=mx.example.com[2001:db8::1]:2525, sasl_method=PLAIN, "
            "sasl_username=olga@example.com"
        ),
        {
            "kind": "client",
            "client_name": "mx.example.com",
            "client_address": "2001:db8::1",
            "login": "olga@example.com",
        },
    ),
    (f"pickup[9]: {ID}: uid=0 from=<root>", {"kind": "client", "sender": "root"}),
    (f"cleanup[9]: {ID}: message-id=<abc@x>", {"kind": "message-id", "message_id": "abc@x"}),
    (
        f"qmgr[9]: {ID}: from=<Sender@test.invalid>, size=300, nrcpt=4 (queue active)",
        {"kind": "queued", "sender": "Sender@test.invalid", "size_bytes": 300, "recipients": 4},
    ),
    (f"qmgr[9]: {ID}: from=<>, size=1, nrcpt=1 (queue active)", {"kind": "queued", "sender": ""}),
    (f"qmgr[9]: {ID}: from=<a@b>, status=expired, returned to sender", {"kind": "expired"}),
    (f"qmgr[9]: {ID}: removed", {"kind": "removed"}),
    (f"postsuper[9]: {ID}: removed", {"kind": "deleted"}),
    (f"postsuper[9]: {ID}: placed on hold", {"kind": "note", "text": "placed on hold"}),
    (
        (
            f"smtp[9]: {ID}: to=<bad@deliver.test>, relay=127.0.0.1[127.0.0.1]:53673, delay=0.09, "
            "delays=0.02/0.05/0/0.03, dsn=5.1.1, status=bounced (host 127.0.0.1[127.0.0.1] said: "
            '550 5.1.1 <no> "such" user <script>alert(1)</script> (in reply to RCPT TO command))'
        ),
        {"kind": "delivery", "status": "bounced", "dsn": "5.1.1", "delay_s": 0.09},
    ),
    (
        (
            f"relay/smtp[9]: {ID}: to=<b@c>, orig_to=<root>, relay=none, delay=3602, "
            "delays=3600/0/2/0, dsn=4.4.1, status=deferred (connect to 192.0.2.1[192.0.2.1]:25: "
            "Connection timed out)"
        ),
        {"service": "postfix/relay/smtp", "recipient": "b@c", "relay": "none"},
    ),
    (
        (
            f"lmtp[9]: {ID}: to=<b@c>, relay=d[/run/lmtp], conn_use=2, delay=1, delays=1/0/0/0, "
            "dsn=2.0.0, status=sent (250 2.1.5 Ok)"
        ),
        {"status": "sent", "relay": "d[/run/lmtp]"},
    ),
    (
        f"bounce[9]: {ID}: sender non-delivery notification: {CHILD}",
        {"kind": "notice", "child": CHILD},
    ),
    (
        (
            "smtpd[9]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 <g@x>: Relay "
            "access denied; from=<f@x> to=<g@x> proto=ESMTP helo=<evil>"
        ),
        {"kind": "rejected", "sender": "f@x", "recipient": "g@x", "helo": "evil"},
    ),
    (
        "smtpd[9]: NOQUEUE: reject: CONNECT from unknown[192.0.2.1]: 554 5.7.1 No; proto=SMTP",
        {"kind": "rejected", "client_address": "192.0.2.1"},
    ),
    (
        (
            f"cleanup[9]: {ID}: milter-reject: END-OF-MESSAGE from mx[192.0.2.1]: 5.7.1 No; "
            "from=<a@b> to=<c@d> proto=ESMTP helo=<h>"
        ),
        {"kind": "rejected", "queue_id": ID, "sender": "a@b"},
    ),
    ("master[9]: daemon started -- version 3.7.11, configuration /etc/postfix", None),
    ("smtpd[9]: warning: Illegal address syntax from x[192.0.2.1] in RCPT command: <@>", None),
]


def read(text: str, clock: Clock = CLOCK) -> TraceEntry | None:
    """Read one line as postlogd(8) stamps it."""
    return parse_line(f"Nov 21 08:50:08 relay-1 postfix/{text}", clock)


@pytest.mark.parametrize(("text", "said"), GOLDEN)
def test_a_line_says(text: str, said: dict[str, Any] | None) -> None:
    """Each kind of line gives its fields; what names no message and no client gives nothing."""
    entry = read(text)
    if said is None:
        assert entry is None
        return
    assert entry is not None
    found = entry.model_dump(mode="json")
    assert {name: found[name] for name in said} == said


FORGED = '"a>, relay=evil[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok)"@x'


def test_an_address_cannot_forge_a_delivery() -> None:
    """A quoted local part that looks like the rest of the line stays a part of the address."""
    entry = read(
        f"smtp[9]: {ID}: to=<{FORGED}>, relay=r[192.0.2.9]:25, delay=0, delays=0/0/0/0, "
        "dsn=5.0.0, status=bounced (no)"
    )
    assert entry is not None
    assert (entry.recipient, entry.relay, entry.status) == (FORGED, "r[192.0.2.9]:25", "bounced")


def test_a_reply_cannot_forge_a_delivery() -> None:
    """What a next hop answers is no field, whatever it looks like."""
    entry = read(
        f"smtp[9]: {ID}: to=<a@x>, relay=r[192.0.2.9]:25, delay=0, delays=0/0/0/0, dsn=5.0.0, "
        "status=bounced (host said: to=<b@x>, relay=z, delay=0, delays=0, dsn=2.0.0, status=sent)"
    )
    assert entry is not None
    assert (entry.recipient, entry.status) == ("a@x", "bounced")


def test_a_helo_cannot_forge_a_sender() -> None:
    """The fields of a refusal end where the HELO begins, and an address in the reply is none."""
    address = '"a; from=<f> to=<g> proto=SMTP helo=<h>"@x'
    helo = "evil; from=<f@f> to=<g@g> proto=SMTP helo=<z"
    entry = read(
        f"smtpd[9]: NOQUEUE: reject: RCPT from u[192.0.2.1]: 554 <{address}>: no; "
        f"from=<s@x> to=<{address}> proto=ESMTP helo=<{helo}>"
    )
    assert entry is not None
    assert (entry.sender, entry.recipient, entry.helo) == ("s@x", address, helo)


def test_a_refusal_with_an_open_quote_still_names_its_client() -> None:
    """What cannot be told apart is left out; the line and the client stay."""
    entry = read(
        'smtpd[9]: NOQUEUE: reject: HELO from u[192.0.2.1]: 504 <"x>: no; proto=SMTP helo=<"x>'
    )
    assert entry is not None
    assert (entry.kind, entry.client_address) == (TraceKind.REJECTED, "192.0.2.1")


@pytest.mark.parametrize(
    ("now", "stamp", "expected"),
    [
        ("2026-11-21T12:00+00:00", "Nov 21 08:50:08", "2026-11-21T08:50:08+00:00"),
        ("2027-01-01T00:00:30+00:00", "Dec 31 23:59:59", "2026-12-31T23:59:59+00:00"),
        ("2026-12-31T23:59:50+00:00", "Jan  1 00:00:10", "2027-01-01T00:00:10+00:00"),
        ("2026-03-01T12:00+00:00", "Feb 29 10:00:00", "2024-02-29T10:00:00+00:00"),
        ("2026-11-21T12:00+00:00", "2026-11-21T09:50:08.5+01:00", "2026-11-21T08:50:08.5+00:00"),
    ],
)
def test_a_stamp_gets_its_year(now: str, stamp: str, expected: str) -> None:
    """A stamp without a year lies in the past, or a little ahead at the turn of the year."""
    clock = Clock(datetime.fromisoformat(now), UTC)
    entry = parse_line(f"{stamp} relay-1 postfix/qmgr[1]: {ID}: removed", clock)
    assert entry is not None
    assert entry.at == datetime.fromisoformat(expected).timestamp()


def test_a_stamp_is_read_in_the_zone_of_the_node() -> None:
    """postlogd(8) writes local time."""
    entry = read(f"qmgr[1]: {ID}: removed", Clock(CLOCK.now, ZoneInfo("Europe/Berlin")))
    assert entry is not None
    assert entry.at == datetime(2026, 11, 21, 7, 50, 8, tzinfo=UTC).timestamp()


def test_what_no_terminal_should_get_is_replaced() -> None:
    """Control characters never leave the parser; the text is cut to what a column takes."""
    entry = read(f"smtpd[1]: {ID}: \x1b[31mred\x00" + "x" * 5000)
    assert entry is not None
    assert entry.text.startswith("\ufffd[31mred\ufffdx")
    assert len(entry.text) == 1000


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.sampled_from([text for text, _said in GOLDEN]), st.integers(0))
def test_no_line_breaks_the_parser(noise: str, text: str, place: int) -> None:
    """Whatever stands in a line, the answer is an entry that the wire takes, or none."""
    place %= len(text)
    for line in (noise, text[:place] + noise, text[:place] + noise + text[place:]):
        entry = read(line)
        assert entry is None or TraceEntry.model_validate_json(entry.model_dump_json()) == entry


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("1970-01-01T00:00:00+00:00", 0.0),
        ("1969-12-31T23:59:59+00:00", None),
        ("2242-03-16T12:56:31+00:00", 2.0**33 - 1),
        ("2242-03-16T12:56:32+00:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-13-45T08:50:08+00:00", None),
        ("2026-11-21T08:50:08x", None),
        ("2026-11-21T08:50:08", 1795251008.0),
        ("Nov 31 08:50:08", None),
        ("Foo 21 08:50:08", None),
        ("Nov 21 25:50:08", None),
    ],
)
def test_a_time_that_no_column_takes_is_no_time(stamp: str, at: float | None) -> None:
    """A line whose stamp says nothing is left out; it is not given the time of reading."""
    entry = parse_line(f"{stamp} relay-1 postfix/qmgr[1]: {ID}: removed", CLOCK)
    assert (entry.at if entry is not None else None) == at


@pytest.mark.parametrize("status", ["expired", "force-expired"])
def test_a_message_that_expired_names_its_sender(status: str) -> None:
    """The sender is who gets it back; expiring by hand is expiring."""
    entry = read(f"qmgr[9]: {ID}: from=<a@b>, status={status}, returned to sender")
    assert entry is not None
    assert (entry.kind, entry.sender, entry.queue_id) == (TraceKind.EXPIRED, "a@b", ID)


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ("postfix/smtpd", TraceKind.CLIENT),
        ("postfix/submission/smtpd", TraceKind.CLIENT),
        ("postfix-out/submission/smtpd", TraceKind.CLIENT),
        ("postfix/smtps/tlsproxy", TraceKind.NOTE),
    ],
)
def test_a_service_of_any_instance_is_read(service: str, kind: TraceKind) -> None:
    """master.cf(5) gives services names of their own; the program is the last part."""
    line = f"Nov 21 08:50:08 relay-1 {service}[9]: {ID}: client=mx[192.0.2.1]"
    entry = parse_line(line, CLOCK)
    assert entry is not None
    assert (entry.kind, entry.service) == (kind, service)


def test_a_refusal_with_an_open_quote_names_the_client_by_name_and_address() -> None:
    """Neither is what the client said of itself."""
    entry = read('smtpd[9]: NOQUEUE: reject: HELO from mx.test[192.0.2.1]: 504 <"x>: no; helo=<"x>')
    assert entry is not None
    assert (entry.client_name, entry.client_address) == ("mx.test", "192.0.2.1")
    assert (entry.sender, entry.recipient, entry.helo) == (None, None, None)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_end_of_a_line_says_nothing(end: str) -> None:
    """A file read in lines gives the same entries as one that is split."""
    whole = f"qmgr[1]: {ID}: removed"
    assert read(whole + end) == read(whole)
