"""The lab's destination: what it journals, how it can be told to answer, and how fast it is."""

from __future__ import annotations

import asyncio
import json
import smtplib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import sink
from lab.syslog import file_of, line_of

MESSAGE = "From: a@x.example\r\nX-Relay-Test-Id: 00ff\r\n\r\nbody\r\n"


@dataclass
class Running:
    """A sink on a loopback port."""

    port: int
    journal: Path
    mode_file: Path

    def entries(self) -> list[dict[str, object]]:
        """Give what was journalled."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def client(self) -> smtplib.SMTP:
        """Open a session."""
        return smtplib.SMTP("127.0.0.1", self.port, timeout=10)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Serve in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    journal, mode = tmp_path / "sink.jsonl", tmp_path / "mode"
    server = loop.run_until_complete(sink.serve("127.0.0.1", 0, journal, mode))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Running(server.sockets[0].getsockname()[1], journal, mode)
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_message_stands_in_the_journal_before_its_250(running: Running) -> None:
    """Envelope, id and time of a message are there when the sender has its answer."""
    with running.client() as client:
        client.sendmail("a@x.example", ["b@y.example", "c@y.example"], MESSAGE)
        entry = running.entries()[0]
    assert entry["id"] == "00ff"
    assert entry["from"] == "a@x.example"
    assert entry["to"] == ["b@y.example", "c@y.example"]
    assert abs(float(str(entry["at"])) - time.time()) < 10


def test_a_message_without_a_test_id_has_its_message_id() -> None:
    """The Message-ID stands in, without its brackets; without both the id is empty."""
    assert sink.identify(b"Subject: x\r\nMessage-ID: <abc@host>") == "abc@host"
    assert sink.identify(b"Message-ID:\r\n <folded@host>\r\n") == "folded@host"
    assert sink.identify(b"X-RELAY-TEST-ID: 1\r\nMessage-ID: <2>") == "1"
    assert sink.identify(b"Subject: none") == ""


def test_several_messages_go_through_one_session(running: Running) -> None:
    """A session may send more than one, with RSET in between, and dots are no end."""
    with running.client() as client:
        for number in range(3):
            client.sendmail("a@x.example", ["b@y.example"], f"X-Relay-Test-Id: {number}\n\n.\n..\n")
            client.rset()
    assert [entry["id"] for entry in running.entries()] == ["0", "1", "2"]


def test_an_empty_message_ends(running: Running) -> None:
    """A lone dot right after DATA is the end of an empty message."""
    with running.client() as client:
        client.ehlo()
        client.mail("a@x.example")
        client.rcpt("b@y.example")
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(b".\r\n")
        assert client.getreply()[0] == 250
    assert running.entries()[0]["bytes"] == 0


def test_a_message_cut_into_small_pieces_arrives_whole(running: Running) -> None:
    """The final dot is found wherever the packets break."""
    with running.client() as client:
        client.ehlo()
        client.mail("a@x.example")
        client.rcpt("b@y.example")
        client.putcmd("data")
        client.getreply()
        for byte in b"X-Relay-Test-Id: 7\r\n\r\nx\r\n.\r\n":
            client.send(bytes([byte]))
        assert client.getreply()[0] == 250
    assert running.entries()[0]["id"] == "7"


def test_pipelined_commands_are_answered_in_order(running: Running) -> None:
    """Postfix sends MAIL, RCPT and DATA at once."""
    with running.client() as client:
        client.ehlo()
        client.send(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n")
        assert [client.getreply()[0] for _ in range(3)] == [250, 250, 354]
        client.send(b"\r\n.\r\nQUIT\r\n")
        assert client.getreply()[0] == 250


@pytest.mark.parametrize(("mode", "code"), [("defer", 451), ("refuse", 550)])
def test_the_sink_says_no_when_told(running: Running, mode: str, code: int) -> None:
    """A mode file changes the answer to recipients at once, also in an open session."""
    with running.client() as client:
        client.sendmail("a@x.example", ["b@y.example"], MESSAGE)
        running.mode_file.write_text(mode)
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
            client.sendmail("a@x.example", ["b@y.example"], MESSAGE)
        assert refusal.value.recipients["b@y.example"][0] == code
        running.mode_file.write_text("accept")
        client.sendmail("a@x.example", ["b@y.example"], MESSAGE)
    assert len(running.entries()) == 2


def test_a_slow_sink_takes_its_second(running: Running) -> None:
    """In mode `slow` the answer to a message takes a second."""
    running.mode_file.write_text("slow")
    began = time.monotonic()
    with running.client() as client:
        client.sendmail("a@x.example", ["b@y.example"], MESSAGE)
    assert time.monotonic() - began >= 1.0


def test_a_message_without_recipient_is_refused(running: Running) -> None:
    """DATA before a valid RCPT gets a 503."""
    with running.client() as client:
        client.ehlo()
        client.mail("a@x.example")
        assert client.docmd("DATA")[0] == 503


@pytest.mark.parametrize(
    ("datagram", "name"),
    [
        (b"<22>Nov 21 04:00:00 postfix/smtpd[1]: connect", "mail.log"),
        (b"<16>Nov 21 04:00:00 x: y", "mail.log"),
        (b"<30>Nov 21 04:00:00 x: y", "syslog.log"),
        (b"no priority at all", "syslog.log"),
    ],
)
def test_the_facility_decides_on_the_log(datagram: bytes, name: str) -> None:
    """Facility 2 is mail, whatever the severity."""
    assert file_of(datagram) == name


def test_a_log_line_is_one_line_with_microseconds() -> None:
    """The sender's time stamp is replaced and line breaks inside are gone."""
    line = line_of(b"<22>Nov 21 04:00:00 postfix[1]: a\nb\0", 1.5)
    assert line == b"1970-01-01T00:00:01.500000Z postfix[1]: a b\n"
