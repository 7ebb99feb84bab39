"""Laws of the lab's destination, its log and its layout: cut anywhere, the same is written down."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import layout
from lab.sink import Journal, Session, identify
from lab.syslog import file_of, line_of

some = settings(max_examples=40)
bodies = st.lists(
    st.sampled_from(["line", "", ".", "..", "..x", "X-Relay-Test-Id: no"]), max_size=5
)
Mail = tuple[str, list[str], list[str]]
"""Sender, recipients and the lines of the body."""
mails = st.tuples(
    st.sampled_from(["a@x.example", ""]),
    st.lists(st.sampled_from(["b@y.example", "c@y.example"]), min_size=1, max_size=2),
    bodies,
)


def spoken(number: int, mail: Mail) -> bytes:
    """Return one message as a client sends it: dots at the start of a line are doubled."""
    sender, recipients, lines = mail
    content = [f"X-Relay-Test-Id: id{number}", "", *(f".{x}" if x[:1] == "." else x for x in lines)]
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients), "DATA"]
    return "\r\n".join([*commands, *content, ".", ""]).encode()


async def _talk(directory: Path, data: bytes, cuts: list[int]) -> bytes:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    book = Journal(directory / "sink.jsonl")
    await loop.connect_accepted_socket(lambda: Session(book, directory / "mode"), theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        writer.write(data[start:end])
        await asyncio.sleep(0)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


def talk(directory: Path, data: bytes, cuts: list[int]) -> tuple[bytes, list[dict[str, object]]]:
    """Say these bytes to a session in pieces; return its answers and what it wrote down."""
    answer = asyncio.run(_talk(directory, data, cuts))
    lines = (directory / "sink.jsonl").read_text().splitlines()
    return answer, [json.loads(line) for line in lines]


@some
@given(st.lists(mails, min_size=1, max_size=3), st.data())
def test_wherever_a_session_is_cut_the_same_is_written_down(
    tmp_path_factory: pytest.TempPathFactory, sent: list[Mail], data: st.DataObject
) -> None:
    """In the order it came, pipelined as a whole; each message is answered once."""
    parts = [spoken(number, mail) for number, mail in enumerate(sent)]
    whole = b"EHLO client\r\n" + b"".join(parts) + b"QUIT\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))
    answer, entries = talk(tmp_path_factory.mktemp("sink"), whole, cuts)
    assert [entry["id"] for entry in entries] == [f"id{n}" for n in range(len(sent))]
    assert [(entry["from"], entry["to"]) for entry in entries] == [mail[:2] for mail in sent]
    for part, entry in zip(parts, entries, strict=True):
        content = part.split(b"DATA\r\n", 1)[1]
        assert entry["bytes"] == len(content) - len(b"\r\n.\r\n")
    assert answer.count(b"250 2.0.0 taken\r\n") == len(sent)
    assert answer.startswith(b"220 sink ESMTP\r\n250-sink\r\n")
    assert answer.endswith(b"221 2.0.0 bye\r\n")


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        (b"DATA\r\n", [b"503 5.5.1 no recipient"]),
        (b"MAIL FROM:<a@x>\r\nDATA\r\n", [b"250 2.1.0 ok", b"503 5.5.1 no recipient"]),
        (
            b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRSET\r\nDATA\r\n",
            [b"250 2.1.0 ok", b"250 2.1.5 ok", b"250 2.0.0 ok", b"503 5.5.1 no recipient"],
        ),
        (
            b"RCPT TO:<b@y>\r\nMAIL FROM:<a@x>\r\nDATA\r\n",
            [b"250 2.1.5 ok", b"250 2.1.0 ok", b"503 5.5.1 no recipient"],
        ),
        (b"noop\r\nHELO x\r\n", [b"250 2.0.0 ok", b"250 2.0.0 ok"]),
        (b"NOOP", []),
        (b"NOOP\n", []),
    ],
)
def test_an_envelope_begins_anew_with_mail_and_rset(
    tmp_path: Path, said: bytes, answers: list[bytes]
) -> None:
    """Without a recipient there is no message, and half a line is no command."""
    answer, entries = talk(tmp_path, said + b"\r\nQUIT\r\n" * said.endswith(b"\r\n"), [])
    got = answer.split(b"\r\n")[1 : len(answers) + 1]
    assert got == answers if answers else answer == b"220 sink ESMTP\r\n"
    assert entries == []


def test_a_line_without_an_end_ends_the_session(tmp_path: Path) -> None:
    """A client that never sends a line's end holds no memory."""
    answer, entries = talk(tmp_path, b"x" * 10_000, [])
    assert (answer, entries) == (b"220 sink ESMTP\r\n", [])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"", ""),
        (b"Subject: x", ""),
        (b"X-Relay-Test-Id: 7", "7"),
        (b"x-relay-test-id:\t7 8", "7"),
        (b"Message-ID: <m@x>\r\nX-Relay-Test-Id: 7", "7"),
        (b"Message-Id: <m@x>", "m@x"),
        (b"Message-ID:\r\n <m@x>", "m@x"),
        (b"X-X-Relay-Test-Id: 7", ""),
        (b"Subject: X-Relay-Test-Id: 7", ""),
        (b"X-Relay-Test-Id: \xff", "\ufffd"),
    ],
)
def test_a_message_is_known_by_its_test_id_or_its_message_id(header: bytes, found: str) -> None:
    """The test's own comes first, wherever it stands."""
    assert identify(header) == found


@given(st.integers(0, 23), st.integers(0, 7), st.binary(max_size=40))
def test_a_log_line_is_one_line_in_one_of_two_logs(
    facility: int, severity: int, text: bytes
) -> None:
    """Facility 2 is mail (RFC 3164, 4.1.1), at every severity."""
    datagram = b"<%d>Jan  1 00:00:00 %s" % (facility << 3 | severity, text)
    assert file_of(datagram) == ("mail.log" if facility == 2 else "syslog.log")
    line = line_of(datagram, 1_800_000_000.25)
    assert line.startswith(b"2027-01-15T08:00:00.250000Z ")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize("datagram", [b"", b"<>", b"<19", b"<1234>x", b"19>x", b"\xff" * 50])
def test_a_datagram_without_a_priority_is_no_mail(datagram: bytes) -> None:
    """It is kept all the same."""
    assert file_of(datagram) == "syslog.log"
    assert line_of(datagram, 0.0).startswith(b"1970-01-01T00:00:00.000000Z ")


def test_names_and_addresses_of_the_lab_fit_each_other() -> None:
    """Unlike names and hardware addresses, short enough for the kernel, all in one network."""
    hosts = layout.HOSTS.values()
    network = ip_network(f"{layout.MACHINE_ADDRESS}/{layout.NETWORK_PREFIX_BITS}", strict=False)
    addresses = [host.address for host in hosts] + [layout.VIP, layout.MACHINE_ADDRESS]
    assert len(set(addresses)) == len(addresses)
    assert all(ip_address(one) in network for one in addresses)
    links = [host.port for host in hosts] + [
        layout.MACHINE_LINK,
        layout.MACHINE_PORT,
        layout.BRIDGE,
    ]
    assert len(set(links)) == len(links)
    assert all(len(one) <= 15 for one in links)  # IFNAMSIZ, netdevice(7)
    macs = {host.mac for host in hosts}
    assert len(macs) == len(layout.HOSTS)
    assert all(re.fullmatch(r"02(:[0-9a-f]{2}){5}", mac) for mac in macs)
    assert set(layout.NODES) <= set(layout.HOSTS)
