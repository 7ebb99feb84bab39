"""From a request's body to the answer's: reading, deciding, keeping mail, and what if that fails.

Theory of operation. Nothing that was answered "taken" (250) is lost: a mail that goes to the
quarantine or to the subscribers of a category is in this node's Postfix before the answer leaves,
and where Postfix does not take it the answer is a tempfail. What is done with a request that cannot
be judged (not readable, too slow, a fault) is the administrator's choice; a quarantine is possible
only for a whole mail, so it is a tempfail for everything else. That choice is none about mail that
was judged: where a defect keeps such a mail from being put away, its sender has to keep it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import Final, TypeVar

import structlog

from nodeagent.policy.codecs.hook_request import HookRequest, HttpCodec, InvalidRequest
from nodeagent.policy.codecs.milter_content import HEADER_OVERHEAD_BYTES, TOO_MANY_HEADERS
from nodeagent.policy.document import FaultAction, PolicySettings
from nodeagent.policy.doors.boundary import Defect, contained
from nodeagent.policy.doors.http_answer import Answer
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import (
    ACCEPT,
    Decision,
    Envelope,
    Message,
    Reply,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import (
    WHY,
    Decides,
    MailKeeper,
    NotKept,
    Unjudged,
    is_for_our_postfix,
    is_for_subscriber,
    unjudged,
)
from nodeagent.policy.raw_message import changed_envelope, changed_message

BIG_BODY_BYTES: Final = 256 * 1024
MANY_ARRAYS: Final = 200_000
MOST_REASONS: Final = 5
T = TypeVar("T")

DISCARD: Final = Decision(verdict=Verdict.DISCARD)
CANNOT_JUDGE: Final = Reply(451, "4.3.0", "The mail cannot be checked now, try again later")
NOT_JUDGED: Final = Reply(550, "5.3.0", "The mail cannot be checked")
NOT_KEPT: Final = unjudged(
    Unjudged.NOT_KEPT,
    Verdict.TEMPFAIL,
    Reply(451, "4.3.0", "The mail cannot be stored now, try again later"),
)

log = structlog.get_logger()


class _NotJudged(Exception):
    """The request was read and got no decision; `action` is what to do instead."""

    def __init__(self, action: FaultAction, why: Unjudged, detail: str | None = None) -> None:
        super().__init__(WHY[why])
        self.action = action
        self.why = why
        self.detail = detail


class Judging:
    """Answers one request at a time, any number of them at once."""

    def __init__(self, decides: Decides, keeper: MailKeeper) -> None:
        self._decides = decides
        self._keeper = keeper
        self._structure_turn = asyncio.Semaphore(1)

    async def answer(self, codec: HttpCodec, body: bytes, settings: PolicySettings) -> Answer:
        """Return the answer to this body."""
        http = settings.http
        try:
            request = await contained(self._read(codec, body))
        except InvalidRequest as error:
            log.warning("a policy request was not readable", codec=codec.name, why=str(error))
            fault = _NotJudged(http.on_invalid, Unjudged.UNREADABLE, str(error))
            said = (b"x-relay-error", str(error).encode("ascii", "replace"))
            return await self._answer_unread(codec, fault, said)
        except Defect as error:
            fault = _NotJudged(http.on_fault, Unjudged.DEFECT, str(error))
            return await self._answer_unread(codec, fault)
        if request.stage not in http.stages:
            return await self._written(codec, request, ACCEPT)
        if _has_long_headers(request.message, settings.inspected_bytes):
            self._note(request, TOO_MANY_HEADERS)
            return await self._written(codec, request, TOO_MANY_HEADERS)
        try:
            decision = await self._decide(request, settings)
            done, is_final = await self._carry_out(request, decision, _reason(decision)), True
        except _NotJudged as fault:
            why = fault.detail or str(fault)
            log.warning("a policy request was not judged", stage=request.stage, why=why)
            done, is_final = await self._make_do(request, fault)
        except NotKept as error:
            log.warning("a mail was not kept", stage=request.stage, why=str(error))
            done, is_final = NOT_KEPT, False
        return await self._written(codec, request, done, is_final=is_final)

    async def _read(self, codec: HttpCodec, body: bytes) -> HookRequest:
        """Read, a long body in a thread, and one at a time of those that are mostly structure.

        A mail of 50 MB can be four million headers, which are twenty times as large once read.
        """
        if len(body) < BIG_BODY_BYTES:
            return codec.read(body)
        async with self._structure_turn if body.count(b"[") > MANY_ARRAYS else nullcontext():
            return await asyncio.to_thread(codec.read, body)

    async def _answer_unread(
        self, codec: HttpCodec, fault: _NotJudged, *said: tuple[bytes, bytes]
    ) -> Answer:
        """Answer what could not be read, as the administrator chose: there is no mail to keep."""
        request = HookRequest(Stage.DATA, Session(), Envelope())
        done = _instead(fault) or _tempfail(fault)
        self._note(request, done)
        return Answer(200, codec.write(done, None), said)

    async def _written(
        self, codec: HttpCodec, request: HookRequest, done: Decision, *, is_final: bool = True
    ) -> Answer:
        """Return the answer; one that cannot be written is a tempfail."""
        try:
            return Answer(
                200, await contained(_write(codec, done, request.stage)), is_final=is_final
            )
        except Defect as error:
            unsaid = unjudged(Unjudged.UNSAYABLE, Verdict.TEMPFAIL, CANNOT_JUDGE, str(error))
            self._note(request, unsaid)
            return Answer(200, codec.write(unsaid, request.stage), is_final=False)

    def _note(self, request: HookRequest, done: Decision) -> None:
        """Have written down what is answered without a decision."""
        about = (request.session, request.envelope, request.message)
        self._decides.note_unjudged(Door.HTTP, request.stage, *about, answered=done)

    async def _decide(self, request: HookRequest, settings: PolicySettings) -> Decision:
        """Return the decision; raises `_NotJudged`.

        It runs as a task, so that a defect in it is a fault that the administrator chose an
        answer to, and not the end of the request.
        """
        asked = asyncio.create_task(self._ask(request, settings))
        try:
            await asyncio.wait((asked,), timeout=settings.decision_timeout_s)
        finally:
            is_late = not asked.done()
            asked.cancel()
        if is_late:
            raise _NotJudged(settings.http.on_timeout, Unjudged.TIMEOUT)
        if asked.cancelled():
            raise _NotJudged(settings.http.on_fault, Unjudged.DEFECT, "cancelled")
        defect = asked.exception()
        if defect is not None:
            raise _NotJudged(settings.http.on_fault, Unjudged.DEFECT, repr(defect)) from defect
        return asked.result()

    async def _ask(self, request: HookRequest, settings: PolicySettings) -> Decision:
        message = _inspected(request.message, settings.inspected_bytes)
        asked = (Door.HTTP, request.stage, request.session, request.envelope, message)
        return self._decides.decide_now(*asked) or await self._decides.decide(*asked)

    async def _make_do(self, request: HookRequest, fault: _NotJudged) -> tuple[Decision, bool]:
        """Return what is done with a request that got no decision, and whether that is final.

        It is final once the mail was put away: asked again, it must not be put away twice.
        """
        instead = _instead(fault)
        if instead is None and request.stage is not Stage.DATA:
            instead = _tempfail(fault)
        if instead is not None:
            self._note(request, instead)
            return instead, False
        try:
            held = unjudged(fault.why, Verdict.QUARANTINE, detail=fault.detail)
            return await self._carry_out(request, held, f"not judged: {fault}"), True
        except NotKept as error:
            log.warning("a mail was not kept", stage=request.stage, why=str(error))
            return NOT_KEPT, False

    async def _carry_out(self, request: HookRequest, decision: Decision, reason: str) -> Decision:
        """Put away what has to be, and return what the MTA is told; raises `NotKept`."""
        message = request.message
        if request.stage is not Stage.DATA or message is None or not is_for_our_postfix(decision):
            return decision
        put_away = (
            self._hold(request.envelope, message, decision, reason)
            if decision.verdict is Verdict.QUARANTINE
            else self._send_to_lists(request.envelope, message, decision)
        )
        about = (request.session, request.envelope, message, decision)
        try:
            queue_id, told = await _kept(put_away)
        except NotKept:
            self._decides.note_held(*about, None)
            raise
        self._decides.note_held(*about, queue_id)
        return told

    async def _hold(
        self, envelope: Envelope, message: Message, decision: Decision, reason: str
    ) -> tuple[str, Decision]:
        """Put the mail into the quarantine with its changes; return its queue id, and a discard."""
        changed = changed_message(message, decision.changes)
        held = changed_envelope(envelope, decision.changes)
        return await self._keeper.hold(held, changed, reason), DISCARD

    async def _send_to_lists(
        self, envelope: Envelope, message: Message, decision: Decision
    ) -> tuple[str, Decision]:
        """Hand the subscribers' copies to Postfix; the MTA keeps whom else the mail is for."""
        rest = tuple(change for change in decision.changes if not is_for_subscriber(change))
        lists = tuple(change for change in decision.changes if is_for_subscriber(change))
        left = changed_envelope(envelope, rest)
        copies = changed_envelope(Envelope(sender=left.sender), lists)
        queue_id = await self._keeper.send(copies, changed_message(message, rest))
        log.info("a mail went to subscribers", queue_id=queue_id, count=len(lists))
        told = Decision(changes=rest, fired=decision.fired) if left.recipients else DISCARD
        return queue_id, told


async def _kept(work: Awaitable[T]) -> T:
    """Return what putting a mail away returns; a defect in it is `NotKept` like any other reason.

    It was judged, so what was chosen for mail that cannot be judged says nothing about it.
    """
    try:
        return await contained(work)
    except Defect as error:
        raise NotKept(str(error)) from error


async def _write(codec: HttpCodec, decision: Decision, stage: Stage) -> bytes:
    return codec.write(decision, stage)


def _has_long_headers(message: Message | None, most_bytes: int) -> bool:
    """Tell whether Postfix's door would refuse it, so that this one does."""
    if message is None:
        return False
    sizes = (len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in message.headers)
    return sum(sizes) > most_bytes


def _inspected(message: Message | None, most_bytes: int) -> Message | None:
    """Return the message as the engine gets it: cut off at the policy's limit."""
    if message is None or len(message.body) <= most_bytes:
        return message
    return Message(message.headers, message.body[:most_bytes], message.size_bytes, message.queue_id)


def _reason(decision: Decision) -> str:
    rules = dict.fromkeys(one.rule for one in decision.fired if one.verdict is decision.verdict)
    return ", ".join(list(rules)[:MOST_REASONS]) or "policy"


def _instead(fault: _NotJudged) -> Decision | None:
    """Return what stands for a decision, or None where the mail has to be kept by us."""
    match fault.action:
        case FaultAction.ACCEPT:
            return unjudged(fault.why, Verdict.ACCEPT, detail=fault.detail)
        case FaultAction.REJECT:
            return unjudged(fault.why, Verdict.REJECT, NOT_JUDGED, fault.detail)
        case FaultAction.TEMPFAIL:
            return _tempfail(fault)
        case FaultAction.QUARANTINE:
            return None


def _tempfail(fault: _NotJudged) -> Decision:
    return unjudged(fault.why, Verdict.TEMPFAIL, CANNOT_JUDGE, fault.detail)
