"""A real Postfix relays, bounces and defers; what it logged becomes the trace."""

from __future__ import annotations

import smtplib
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from controlplane.gui.charts import flow_chart
from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.sample_tables import SampleRow
from controlplane.store.samples import FINE_S, FLOW_COUNTS, read_history, take_samples
from controlplane.store.trace_intake import take_batch
from controlplane.store.trace_search import TraceFilter, find_messages, read_timeline
from nodeagent.adapters.mail_log import MailLog
from nodeagent.core.contract import MailFlow, NodeReport, Role
from nodeagent.core.stream_wire import StreamAnswer, pack
from nodeagent.core.trace_wire import TraceBatch, unpack
from nodeagent.trace import Tracer
from tests.fakes.postfix_instance import PostfixInstance
from tests.fakes.reports import store_report

LIMIT_S = 30
HELO = "evil; from=<f@f> to=<g@g> proto=SMTP helo=<z"
QUOTED = '"a, b>; from=<x>"@deliver.test'


class NextHop(socketserver.StreamRequestHandler):
    """Takes mail, but refuses `bad` for good and `later` for now."""

    def handle(self) -> None:
        """Hold one session."""
        self.wfile.write(b"220 next\r\n")
        for line in self.rfile:
            said = line.strip().lower()
            if said == b"data":
                self.wfile.write(b"354 go\r\n")
                while self.rfile.readline() not in {b".\r\n", b""}:
                    pass
            answer = b"250 2.0.0 taken"
            if said.startswith(b"rcpt to:<bad@"):
                answer = b"550 5.1.1 <script>alert(1)</script>"
            elif said.startswith(b"rcpt to:<later@"):
                answer = b"450 4.2.0 later"
            self.wfile.write(answer + b"\r\n")
            if said == b"quit":
                return


class Direct:
    """The control plane's store without the wire between."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def trace(self, batch: TraceBatch) -> StreamAnswer:
        """Store a batch."""
        with self._database.write(TRACE_LOCK) as session:
            return take_batch(session, "node-a", unpack(pack(batch)))


def charted(database: Database, flow: MailFlow) -> list[dict[str, Any]]:
    """Return the overview's lines when a node reports this, and had nothing in the step before."""
    with database.write() as session:
        store_report(session, "node-a", NodeReport(role=Role.ACTIVE, flow=flow))
        take_samples(session)
        sample = session.exec(select(SampleRow)).one()
        nothing = dict.fromkeys(FLOW_COUNTS, 0)
        session.add(SampleRow(node="node-a", step_s=FINE_S, at=sample.at - FINE_S, **nothing))
    with database.read() as session:
        chart = flow_chart(read_history(session, 3600))
    assert chart is not None
    found = chart["series"]
    assert isinstance(found, list)
    return found


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[PostfixInstance]:
    """Give a running Postfix whose next hop answers."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), NextHop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    instance = PostfixInstance(tmp_path, next_hop=server.server_address[1])
    instance.start()
    yield instance
    instance.stop()
    server.shutdown()
    server.server_close()


def test_what_postfix_logs_is_found(
    relay: PostfixInstance, sqlite_database: Database, tmp_path: Path
) -> None:
    """One message to four recipients, its bounce, and a session that ended without one."""
    with smtplib.SMTP("127.0.0.1", relay.port, local_hostname="x", timeout=LIMIT_S) as client:
        client.ehlo(HELO)
        to = ["ok@deliver.test", "bad@deliver.test", "later@deliver.test", QUOTED]
        client.sendmail("Sender@test.invalid", to, "Message-ID: <one@test>\r\n\r\nhi\r\n")
    tracer = Tracer(
        MailLog(relay.root / "mail.log"), tmp_path / "trace.db", 2**20, Direct(sqlite_database)
    )
    until_s = time.monotonic() + LIMIT_S
    tries: dict[str, str] = {}
    while len(tries) < len(to):
        assert time.monotonic() < until_s, (relay.root / "mail.log").read_text()
        tracer.turn()
        with sqlite_database.read() as session:
            found = find_messages(session, TraceFilter(message_id="<one@test>"), 2)
            tries = {one.recipient: one.status for one in found[0].deliveries} if found else {}
    assert tries == dict(zip(to, ("sent", "bounced", "deferred", "sent"), strict=True))
    message = found[0].message
    assert (message.sender, message.client_address) == ("Sender@test.invalid", "127.0.0.1")
    assert (message.recipients, message.status) == (4, "bounced")
    with sqlite_database.read() as session:
        timeline = read_timeline(session, message.number or 0)
    assert timeline is not None
    kinds = [step.kind for step in timeline.steps]
    assert kinds[:3] == ["client", "message-id", "queued"]
    assert kinds.count("delivery") == 4


def test_what_postfix_does_is_counted(
    relay: PostfixInstance, sqlite_database: Database, tmp_path: Path
) -> None:
    """One message to three recipients, its bounce, one refused command; unknown without a log."""
    log = relay.root / "mail.log"
    tracer = Tracer(MailLog(log), tmp_path / "trace.db", 2**20, Direct(sqlite_database))
    assert tracer.flow() is None
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=LIMIT_S) as client:
        to = [f"{name}@deliver.test" for name in ("ok", "bad", "later")]
        client.sendmail("sender@test.invalid", to, "Subject: one\r\n\r\nhi\r\n")
        assert client.mail("sender@test.invalid", ["SIZE=99999999999"])[0] == 552
    wanted = {"accepted": 1, "bounced": 1, "deferrals": 1, "rejected": 1}
    until_s = time.monotonic() + LIMIT_S
    while True:  # how often the bounce itself is delivered or put off is not ours to say
        tracer.turn()
        flow = tracer.flow()
        found = {} if flow is None else flow.model_dump(include=set(wanted))
        if found == wanted and flow is not None and (flow.delivered or 0) >= 1:
            break
        assert time.monotonic() < until_s, (found, log.read_text())
    rates = {
        one["label"]: max(one["values"], key=lambda rate: rate or 0)
        for one in charted(sqlite_database, flow)
    }
    assert rates["accepted"] == rates["bounced"] == rates["rejected"] == 6.0
    log.rename(tmp_path / "elsewhere")
    tracer.turn()
    assert tracer.flow() is None
