"""What becomes of a mail over HTTP: each verdict, each fault, each retry."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodeagent.policy.document import FaultAction
from nodeagent.policy.doors.http_app import BIG_AT_ONCE, BIG_BYTES, body_limit
from nodeagent.policy.doors.replays import MOST_ANSWERS
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    Header,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import Unjudged
from tests.fakes.hook_requests import BODY, encoded, request
from tests.fakes.http_hook import BEARER, ServedHook, settings
from tests.fakes.policy_desk import Asked, DeskTwin, KeeperTwin

DATA = encoded(request("data"))
NOT_JSON = b'{"context": '
CODES = {FaultAction.ACCEPT: None, FaultAction.REJECT: 550, FaultAction.TEMPFAIL: 451}


@pytest.fixture
def desk() -> DeskTwin:
    """Give a desk."""
    return DeskTwin(settings())


@pytest.fixture
def keeper() -> KeeperTwin:
    """Give a keeper."""
    return KeeperTwin()


@pytest.fixture
def hook(desk: DeskTwin, keeper: KeeperTwin) -> Iterator[ServedHook]:
    """Give the door, open to `BEARER`."""
    with ServedHook(desk, keeper) as served:
        yield served


@pytest.fixture(params=[False, True], ids=["now", "later"])
def any_desk(request: pytest.FixtureRequest, desk: DeskTwin) -> DeskTwin:
    """Give a desk that decides at once, and one that has to be waited for."""
    desk.is_slow = request.param
    return desk


def explode(_asked: Asked) -> Decision:
    """Break as no desk should."""
    raise RuntimeError("a defect")


def noted(desk: DeskTwin, why: Unjudged) -> list[tuple[Stage, Verdict]]:
    """Return what was noted as answered without a decision, all for this one reason."""
    for _, decision in desk.unjudged:
        (fired,) = decision.fired
        assert (fired.kind, fired.rule) == (RuleKind.FAULT, why)
        assert fired.verdict is decision.verdict
    return [(asked.stage, decision.verdict) for asked, decision in desk.unjudged]


def test_an_accepted_mail_is_changed(hook: ServedHook, any_desk: DeskTwin) -> None:
    """Stalwart gets the changes."""
    any_desk.decision = Decision(changes=(AddHeader("X-Relay-Policy", "pass"),))
    assert hook.ask(DATA).json == {
        "action": "accept",
        "modifications": [{"type": "addHeader", "name": "X-Relay-Policy", "value": "pass"}],
    }


def test_a_rejected_mail_is_rejected(
    hook: ServedHook, any_desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """And kept nowhere."""
    any_desk.decision = Decision(Verdict.REJECT, Reply(554, "5.7.1", "Spam"))
    assert hook.ask(DATA).code == 554
    assert keeper.kept == []


def test_a_quarantined_mail_is_held_before_it_is_answered(
    hook: ServedHook, any_desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """Our own Postfix has it, with its changes; Stalwart lets it go with 250."""
    any_desk.decision = Decision(
        Verdict.QUARANTINE,
        changes=(AddHeader("X-Relay-Policy", "held"), AddRecipient("more@foobar.test")),
        fired=(Fired(RuleKind.BADWORD, "badword:17", "A word.", Verdict.QUARANTINE),),
    )
    got = hook.ask(DATA)
    assert got.json["action"] == "discard"
    assert got.code == 250
    (mail,) = keeper.kept
    assert mail.reason == "badword:17"
    assert mail.envelope == Envelope("john@example.com", ("bill@foobar.test", "more@foobar.test"))
    assert mail.message.body == BODY.encode()
    assert mail.message.headers[-1] == Header("X-Relay-Policy", " held")
    ((verdict, queue_id),) = any_desk.held
    assert verdict is Verdict.QUARANTINE
    assert queue_id


def test_a_mail_that_cannot_be_held_is_tried_again(
    hook: ServedHook, any_desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """Postfix is away: nobody said 250 for it."""
    any_desk.decision = Decision(Verdict.QUARANTINE)
    keeper.is_down = True
    assert hook.ask(DATA).code == 451
    assert any_desk.held == [(Verdict.QUARANTINE, None)]
    keeper.is_down = False
    assert hook.ask(DATA).code == 250


def test_a_discarded_mail_is_gone(hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin) -> None:
    """250, and no copy."""
    desk.decision = Decision(Verdict.DISCARD)
    got = hook.ask(DATA)
    assert (got.json["action"], got.code) == ("discard", 250)
    assert keeper.kept == []


LISTED: tuple[Change, ...] = (
    DeleteRecipient("bill@foobar.test"),
    AddRecipient("7.2@list.relay.invalid"),
    AddRecipient("8.2@list.relay.invalid"),
    AddHeader("X-Relay-Policy", "pass"),
)


def test_a_categorys_mail_goes_to_its_subscribers_by_us(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """Stalwart has nobody left to deliver to, so it lets the mail go."""
    desk.decision = Decision(changes=LISTED)
    got = hook.ask(DATA)
    assert (got.json["action"], got.code) == ("discard", 250)
    (mail,) = keeper.kept
    assert mail.reason is None
    subscribers = ("7.2@list.relay.invalid", "8.2@list.relay.invalid")
    assert mail.envelope == Envelope("john@example.com", subscribers)
    assert mail.message.headers[-1] == Header("X-Relay-Policy", " pass")


def test_other_recipients_stay_with_stalwart(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """It is told to leave the category's address out, and the subscribers are no business of it."""
    asked = request("data")
    asked["envelope"]["to"].append({"address": "bob@other.test"})
    desk.decision = Decision(changes=(*LISTED, ChangeSender("bounce@a.test")))
    got = hook.ask(encoded(asked)).json
    assert got["action"] == "accept"
    assert [one["type"] for one in got["modifications"]] == [
        "deleteRecipient",
        "addHeader",
        "changeFrom",
    ]
    assert keeper.kept[0].envelope.sender == "bounce@a.test"


def test_a_categorys_mail_that_postfix_does_not_take_is_tried_again(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """For all of its recipients."""
    desk.decision = Decision(changes=LISTED)
    keeper.is_down = True
    assert hook.ask(DATA).code == 451
    assert (desk.held, desk.unjudged) == ([(Verdict.ACCEPT, None)], [])
    keeper.is_down = False
    assert hook.ask(DATA).code == 250
    assert desk.held[1:] == [(Verdict.ACCEPT, "4q1")]


@pytest.mark.parametrize("stage", [one for one in Stage if one is not Stage.DATA])
def test_nothing_is_kept_before_the_mail_is_there(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin, stage: Stage
) -> None:
    """Quarantine and discard fire again at its end."""
    for verdict in (Verdict.QUARANTINE, Verdict.DISCARD):
        desk.decision = Decision(verdict)
        assert hook.ask(encoded(request(stage.value))).json == {"action": "accept"}
    assert keeper.kept == []


def test_a_stage_that_is_off_is_accepted_unasked(desk: DeskTwin, keeper: KeeperTwin) -> None:
    """The desk does not hear of it."""
    desk.settings = settings(stages=(Stage.DATA,))
    desk.decision = Decision(Verdict.REJECT)
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(encoded(request("rcpt"))).json == {"action": "accept"}
        assert desk.asked == []
        assert hook.ask(DATA).code == 550


def test_the_engine_gets_what_the_policy_inspects_and_the_quarantine_all(
    desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """A long body is cut off for the one, never for the other."""
    desk.settings = settings(inspected_bytes=65_536)
    desk.decision = Decision(Verdict.QUARANTINE)
    asked = request("data")
    asked["message"]["contents"] = "0123456789abcdef" * 20_000
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(encoded(asked)).code == 250
    seen = desk.asked[0].message
    assert seen is not None
    assert len(seen.body) == 65_536
    assert seen.size_bytes == 320_000
    assert len(keeper.kept[0].message.body) == 320_000


def test_headers_that_are_too_long_are_refused_and_noted(
    desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """As at the other door; the desk is not asked."""
    desk.settings = settings(inspected_bytes=65_536)
    asked = request("data")
    asked["message"]["headers"] *= 200
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(encoded(asked)).code == 552
        assert desk.asked == []
        assert noted(desk, Unjudged.HEADERS) == [(Stage.DATA, Verdict.REJECT)]
        assert hook.ask(DATA).code is None


@pytest.mark.parametrize("action", list(FaultAction))
def test_what_is_not_readable_is_answered_as_chosen(
    desk: DeskTwin, keeper: KeeperTwin, action: FaultAction
) -> None:
    """Quarantine is not possible for what cannot be read, so it is a tempfail."""
    others = {"on_fault": FaultAction.ACCEPT, "on_timeout": FaultAction.ACCEPT}
    if action is FaultAction.ACCEPT:
        others = {"on_fault": FaultAction.REJECT, "on_timeout": FaultAction.REJECT}
    desk.settings = settings(on_invalid=action, **others)
    with ServedHook(desk, keeper) as hook:
        got = hook.ask(NOT_JSON)
        assert got.code == CODES.get(action, 451)
        assert got.headers["x-relay-error"].startswith("the body is no JSON")
    assert desk.asked == []
    assert keeper.kept == []
    ((_, verdict),) = noted(desk, Unjudged.UNREADABLE)
    is_held = action is FaultAction.QUARANTINE
    assert verdict is (Verdict.TEMPFAIL if is_held else Verdict(action.value))


@pytest.mark.parametrize("action", list(FaultAction))
@pytest.mark.parametrize("kind", ["defect now", "defect later"])
def test_a_fault_is_answered_as_chosen(
    desk: DeskTwin, keeper: KeeperTwin, action: FaultAction, kind: str
) -> None:
    """When the desk broke; quarantine keeps the mail. What is answered is what is logged."""
    desk.settings = settings(on_fault=action, on_invalid=FaultAction.ACCEPT)
    desk.decision = explode
    desk.is_slow = kind == "defect later"
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(DATA).code == CODES.get(action, 250)
        at_rcpt = hook.ask(encoded(request("rcpt"))).code
    assert at_rcpt == CODES.get(action, 451)
    is_held = action is FaultAction.QUARANTINE
    assert len(keeper.kept) == (1 if is_held else 0)
    assert desk.held == ([(Verdict.QUARANTINE, "4q1")] if is_held else [])
    early = Verdict.TEMPFAIL if is_held else Verdict(action.value)
    said = [] if is_held else [(Stage.DATA, Verdict(action.value))]
    assert noted(desk, Unjudged.DEFECT) == [*said, (Stage.RCPT, early)]
    assert {decision.fired[0].matched for _, decision in desk.unjudged} == {
        "RuntimeError('a defect')"
    }


@pytest.mark.parametrize("action", list(FaultAction))
def test_a_decision_that_takes_too_long_is_answered_as_chosen(
    desk: DeskTwin, keeper: KeeperTwin, action: FaultAction
) -> None:
    """After the policy's time."""
    desk.settings = settings(on_timeout=action, decision_timeout_s=0.05)
    desk.is_slow, desk.delay_s = True, 3600
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(DATA).code == CODES.get(action, 250)
        assert hook.ask(encoded(request("mail"))).code == CODES.get(action, 451)
    is_held = action is FaultAction.QUARANTINE
    assert [mail.reason for mail in keeper.kept] == (
        ["not judged: the decision took too long"] if is_held else []
    )
    verdict = Verdict(action.value)
    assert noted(desk, Unjudged.TIMEOUT) == (
        [(Stage.MAIL, Verdict.TEMPFAIL)]
        if is_held
        else [(Stage.DATA, verdict), (Stage.MAIL, verdict)]
    )


def test_a_fault_that_was_decided_upon_is_a_decision(hook: ServedHook, desk: DeskTwin) -> None:
    """A plugin that failed is treated as the policy says, and not as a fault of the hook."""
    fired = Fired(RuleKind.FAULT, "plugin:own", "The plugin failed.", Verdict.REJECT)
    desk.decision = Decision(Verdict.REJECT, Reply(554, "5.7.1", "No"), fired=(fired,))
    assert hook.ask(DATA).code == 554


def test_a_fault_that_cannot_be_held_is_tried_again(desk: DeskTwin, keeper: KeeperTwin) -> None:
    """Two faults at once still lose nothing."""
    desk.settings = settings(on_fault=FaultAction.QUARANTINE)
    desk.decision = explode
    keeper.is_down = True
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(DATA).code == 451
    assert (desk.held, desk.unjudged) == ([(Verdict.QUARANTINE, None)], [])


def test_what_was_judged_is_no_fault(hook: ServedHook, desk: DeskTwin) -> None:
    """Nothing is noted beside the desk's own line, whatever the verdict."""
    for verdict in (Verdict.ACCEPT, Verdict.QUARANTINE, Verdict.DISCARD, Verdict.REJECT):
        desk.decision = Decision(verdict)
        hook.ask(DATA)
    assert desk.unjudged == []


ID_HEADERS = ["X-MTA-Hooks-Request-Id", "Idempotency-Key"]


@pytest.mark.parametrize("name", ID_HEADERS)
def test_a_request_that_comes_again_gets_the_same_answer(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin, name: str
) -> None:
    """It is judged and held once."""
    desk.decision = Decision(Verdict.QUARANTINE)
    first = hook.ask(DATA, BEARER | {name: "one"})
    desk.decision = Decision(Verdict.REJECT)
    assert hook.ask(DATA, BEARER | {name: "one"}) == first
    assert len(desk.asked) == len(keeper.kept) == 1
    assert hook.ask(DATA, BEARER | {name: "two"}).code == 550


def test_sixteen_at_once_are_judged_once(hook: ServedHook, desk: DeskTwin) -> None:
    """Who comes while the first is judged waits for its answer."""
    together = threading.Barrier(16)
    desk.is_slow, desk.delay_s = True, 0.2
    desk.decision = Decision(Verdict.REJECT)

    def ask(_number: int) -> bytes:
        together.wait(60)
        return hook.ask(DATA, BEARER | {ID_HEADERS[0]: "same"}).body

    with ThreadPoolExecutor(16) as pool:
        bodies = set(pool.map(ask, range(16)))
    assert len(bodies) == 1
    assert len(desk.asked) == 1


def test_an_id_with_another_body_is_a_conflict(hook: ServedHook, desk: DeskTwin) -> None:
    """409, and it is not judged."""
    headers = BEARER | {ID_HEADERS[0]: "one"}
    assert hook.ask(DATA, headers).status == 200
    got = hook.ask(encoded(request("rcpt")), headers)
    assert got.status == 409
    assert "another body" in got.json["error"]
    assert len(desk.asked) == 1


def test_a_fault_is_not_remembered(hook: ServedHook, desk: DeskTwin) -> None:
    """Asked again it may be judged."""
    headers = BEARER | {ID_HEADERS[0]: "one"}
    desk.decision = explode
    assert hook.ask(DATA, headers).code == 451
    desk.decision = Decision(Verdict.REJECT)
    assert hook.ask(DATA, headers).code == 550


def test_an_endless_id_is_refused(hook: ServedHook) -> None:
    """The book of answers has a bounded size in bytes, too."""
    assert hook.ask(DATA, BEARER | {ID_HEADERS[0]: "x" * 201}).status == 400


def test_the_oldest_answers_are_forgotten(hook: ServedHook, desk: DeskTwin) -> None:
    """The book is bounded."""
    connection = hook.connect()
    body = encoded(request("connect"))
    for number in range(MOST_ANSWERS + 10):
        connection.request("POST", "/mta-hook", body, BEARER | {ID_HEADERS[0]: str(number)})
        assert connection.getresponse().read() == b'{"action":"accept"}'
    connection.close()
    assert len(hook.door.app._replays) == MOST_ANSWERS
    asked = len(desk.asked)
    hook.ask(body, BEARER | {ID_HEADERS[0]: str(MOST_ANSWERS + 9)})
    assert len(desk.asked) == asked
    hook.ask(body, BEARER | {ID_HEADERS[0]: "0"})
    assert len(desk.asked) == asked + 1


def _deep(levels: int) -> bytes:
    return encoded(request()).replace(b'"contents"', b'"x":' + b"[" * levels + b',"contents"')


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "null": lambda: b"null",
    "nested": lambda: _deep(500_000),
    "no UTF-8": lambda: DATA.replace(b"Dear", b"\xff\xfe\xfd"),
    "header breaks": lambda: DATA.replace(b"A long subject", rb"x\r\nBcc: evil@x.test"),
    "number": lambda: DATA.replace(b"12345", b"9" * 100_000),
    "wrong types": lambda: json.dumps({"context": [1], "message": "x"}).encode(),
    "50 MiB of brackets": lambda: b"[" * (50 * 1024 * 1024),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("action", [FaultAction.TEMPFAIL, FaultAction.REJECT])
def test_hostile_input_is_never_accepted_where_that_was_not_chosen(
    desk: DeskTwin, keeper: KeeperTwin, kind: str, action: FaultAction
) -> None:
    """And the door goes on."""
    desk.settings = settings(on_invalid=action)
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(HOSTILE[kind]()).code == CODES[action]
        assert desk.asked == []
        assert hook.ask(DATA).code is None


@pytest.mark.parametrize("text", ["\x00", r"\ud800", r"\udcff\ud800", "\u0085\u2028", "\x7f"])
def test_odd_characters_in_a_mail_are_judged(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin, text: str
) -> None:
    """NUL, halves of pairs: the mail is a mail, and can be kept."""
    desk.decision = Decision(Verdict.QUARANTINE)
    written = text if text.startswith("\\") else json.dumps(text)[1:-1]
    assert hook.ask(DATA.replace(b"A long subject", written.encode())).code == 250
    assert hook.ask(DATA.replace(b"Dear", written.encode())).code == 250
    assert len(keeper.kept) == 2


def test_big_mails_take_turns_and_small_ones_do_not_wait(
    desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """So the memory is bounded, and each gets its answer."""
    asked = request("data")
    asked["message"]["contents"] = "x" * (2 * BIG_BYTES)
    body = encoded(asked)
    desk.settings = settings(decision_timeout_s=60)
    desk.is_slow, desk.is_open = True, threading.Event()
    count = 2 * BIG_AT_ONCE
    with ServedHook(desk, keeper) as hook, ThreadPoolExecutor(count + 1) as pool:
        big = [pool.submit(hook.ask, body) for _ in range(count)]
        while desk.at_once < BIG_AT_ONCE:
            time.sleep(0.01)
        small = pool.submit(hook.ask, DATA)
        while desk.at_once < BIG_AT_ONCE + 1:
            time.sleep(0.01)
        desk.is_open.set()
        answers = [one.result().json for one in (*big, small)]
    assert answers == [{"action": "accept"}] * (count + 1)
    assert desk.most_at_once == BIG_AT_ONCE + 1


def test_a_mail_of_fifty_mib_is_judged_and_kept_whole(
    hook: ServedHook, desk: DeskTwin, keeper: KeeperTwin
) -> None:
    """It is below the limit; the door answers others while it is read."""
    asked = request("data")
    size = 50 * 1024 * 1024
    asked["message"]["contents"] = ("x" * 78 + "\r\n") * (size // 80)
    body = encoded(asked)
    assert len(body) < body_limit(hook.settings)
    desk.decision = Decision(Verdict.QUARANTINE)
    with ThreadPoolExecutor(1) as pool:
        big = pool.submit(hook.ask, body)
        while not big.done():
            assert hook.ask(method="GET", path="/healthz", headers={}).status == 200
            time.sleep(0.01)
    assert big.result().code == 250
    assert len(keeper.kept[0].message.body) == size // 80 * 80
