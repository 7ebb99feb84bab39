"""An MTA's side of a milter session without a socket: packets in, packets out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.codecs.milter_session import Ask, Ended, MilterSession, Refused
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.model import ACCEPT, Decision, Stage

POSTFIX_OFFERS = wire.Negotiate(6, 0x1FF, 0x1FFFFF)
CLIENT = wire.Connect("client.example", "4", 4711, "192.0.2.7")
MESSAGE = (
    wire.HeaderField("Subject", " hello"),
    wire.HeaderField("From", " a@x.example"),
    wire.Body(b"body\r\n"),
)


def judging(*stages: Stage, **settings: object) -> PolicySettings:
    """Return settings of an active policy that judges at these stages (none named: at all)."""
    return PolicySettings.model_validate(
        {"is_active": True, "stages": stages or tuple(Stage), **settings}
    )


@dataclass
class Dialogue:
    """`decides` answers each question; what was asked and sent is kept."""

    session: MilterSession
    decides: Callable[[Ask], Decision] = lambda _asked: ACCEPT
    asked: list[Ask] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def say(self, *packets: Packet) -> list[Packet]:
        """Give packets, answer what is asked, return what the filter sent."""
        sent: list[Packet] = []
        for packet in packets:
            step = self.session.receive(packet)
            while isinstance(step, Ask):
                self.asked.append(step)
                step = self.session.answer(self.decides(step))
            if isinstance(step, Ended):
                self.ended.append(step)
            elif isinstance(step, Refused):
                self.refused.append(step)
                sent.extend(step.packets)
            else:
                sent.extend(step)
        return sent

    def stages(self) -> list[Stage]:
        """Return the stages that were asked for."""
        return [asked.stage for asked in self.asked]


def dialogue(
    settings: PolicySettings | None = None,
    decides: Callable[[Ask], Decision] = lambda _asked: ACCEPT,
    offers: wire.Negotiate = POSTFIX_OFFERS,
    **options: bool,
) -> Dialogue:
    """Return a dialogue that has been negotiated."""
    made = Dialogue(MilterSession(settings or judging(), **options), decides)
    made.say(offers)
    return made


def envelope(*recipients: str, sender: str = "a@x.example") -> tuple[Packet, ...]:
    """Return MAIL and RCPT packets as Postfix sends them."""
    mail = wire.Mail((f"<{sender}>", "SIZE=100"))
    return (mail, *(wire.Rcpt((f"<{recipient}>",)) for recipient in recipients or ("b@y.example",)))


def whole(*recipients: str) -> tuple[Packet, ...]:
    """Return a whole message."""
    return (*envelope(*recipients), *MESSAGE, wire.EndOfMessage(b""))
