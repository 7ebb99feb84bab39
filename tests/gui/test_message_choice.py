"""Messages chosen in a list: ticked ones, or all that its filters leave, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request
from pydantic import BaseModel

from controlplane.api.quarantine import QuarantineAction, QuarantineQuery
from controlplane.api.queue_actions import ActionBody
from controlplane.api.queue_messages import PageFilter
from controlplane.errors import Invalid
from controlplane.gui import policy_quarantine, queue
from controlplane.gui.forms import ANY, Field, Form, Option
from controlplane.gui.listings import show_page, show_refused
from controlplane.gui.message_choice import posted_action
from controlplane.gui.node_options import with_nodes
from controlplane.gui.templating import environment
from controlplane.store.engine import Database
from controlplane.store.policy_quarantine import QuarantineFilter
from controlplane.store.queue_search import QueueFilter
from tests.fakes.postfix_queue import queue_id

ONE, TWO = queue_id(1), queue_id(2)
QUEUE = (queue.FILTERS, PageFilter, QueueFilter, ActionBody)
QUARANTINE = (policy_quarantine.FILTERS, QuarantineQuery, QuarantineFilter, QuarantineAction)
each_list = pytest.mark.parametrize("models", [QUEUE, QUARANTINE], ids=["queue", "quarantine"])
NODE_FORM = Form((Field("node", "Node"), Field("text", "Text")))


def asked(query: str) -> Request:
    """Return the request of a list's page."""
    scope = {"type": "http", "path": "/list", "query_string": query.encode(), "headers": []}
    return Request({**scope, "server": ("relay.test", 443), "scheme": "https"})


def chosen(models: Any, **posted: list[str]) -> dict[str, Any]:
    """Return what the action would be kept as."""
    return posted_action(posted, *models).model_dump(mode="json", exclude_none=True)


@each_list
def test_what_is_ticked_is_chosen(models: Any) -> None:
    """By node and queue id; the filters that stood above it choose nothing then."""
    found = chosen(
        models, verb=["delete"], message=[f"node-a/{ONE}", f"b/{TWO}"], sender=["ann@x.test"]
    )
    assert found == {
        "verb": "delete",
        "messages": [{"node": "node-a", "queue_id": ONE}, {"node": "b", "queue_id": TWO}],
    }


@each_list
def test_everything_is_what_the_filters_leave(models: Any) -> None:
    """What is ticked besides is among it; the place in the list is no filter."""
    found = chosen(
        models,
        verb=["release"],
        everything=["on"],
        message=[f"node-a/{ONE}"],
        sender=["ann@x.test"],
        oldest_first=["on"],
    )
    assert found == {"verb": "release", "filter": {"sender": "ann@x.test"}}


@each_list
def test_everything_without_a_filter_is_all(models: Any) -> None:
    """What was left empty filters nothing."""
    assert chosen(models, verb=["delete"], everything=["on"], sender=[""]) == {
        "verb": "delete",
        "filter": {},
    }


@each_list
@pytest.mark.parametrize(
    "posted",
    [
        {},
        {"verb": ["delete"]},
        {"verb": ["delete"], "message": []},
        {"message": [f"node-a/{ONE}"]},
        {"verb": ["explode"], "everything": ["on"]},
        {"verb": ["delete"], "message": [ONE]},
        {"verb": ["delete"], "message": [f"node-a/{ONE}/{TWO}"]},
        {"verb": ["delete"], "message": [f"../{ONE}"]},
        {"verb": ["delete"], "message": [f"node-a/{ONE}"] * 1001},
        {"verb": ["delete"], "everything": ["on"], "node": ["a b"]},
        {"verb": ["delete"], "everything": ["on"], "recipient": ["x" * 256]},
    ],
)
def test_what_no_page_sends_is_refused(models: Any, posted: dict[str, list[str]]) -> None:
    """In one sentence, whichever list it is."""
    with pytest.raises(Invalid, match=r"^(Choose|Some).*\.$"):
        posted_action(posted, *models)


def test_a_filter_at_fault_is_named() -> None:
    """The sentence stands beside its field."""
    with pytest.raises(Invalid) as refused:
        chosen(QUEUE, verb=["hold"], everything=["on"], older_than_s=["soon"])
    assert list(refused.value.fields) == ["older_than_s"]


@pytest.mark.parametrize(
    ("query", "following", "links"),
    [
        ("", None, (None, None)),
        ("before=", None, (None, None)),
        ("", "1/a&b", (None, "/list?text=x&before=1%2Fa%26b")),
        ("before=9", None, ("/list?text=x", None)),
        ("before=9", 0, ("/list?text=x", "/list?text=x&before=0")),
    ],
)
def test_a_page_has_the_links_of_its_place(
    query: str, following: object, links: tuple[str | None, str | None]
) -> None:
    """The first page leads to no first one, the last to no next one; zero is a place."""
    shown = show_page(asked(query), NODE_FORM.posted({"text": ["x"]}), ["row"], following, 7)
    assert (shown.first_url, shown.next_url) == links
    assert (shown.path, list(shown.rows), shown.total) == ("/list", ["row"], 7)


def test_a_refused_list_has_no_rows_and_keeps_what_was_typed() -> None:
    """With the sentence beside its field."""
    error = Invalid("This cannot be.", {"text": "This cannot be."})
    shown = show_refused(asked("before=9"), NODE_FORM.posted({"text": ["x"]}), error)
    assert (list(shown.rows), shown.first_url, shown.next_url) == ([], None, None)
    assert shown.filters.errors == {"text": "This cannot be."}
    assert shown.filters.text("text") == "x"


@pytest.mark.parametrize("first", [ANY, Option("", "The active one")])
@pytest.mark.usefixtures("pair")
def test_all_nodes_can_be_chosen_by_name(sqlite_database: Database, first: Option) -> None:
    """After what stands for none of them; other fields stay as they are."""
    with sqlite_database.read() as session:
        found = with_nodes(session, NODE_FORM.filled(), first).form
    options = found.fields[0].options
    assert [one.value for one in options] == ["", "node-a", "node-b"]
    assert options[0] is first
    assert not any(one.is_message for one in options[1:])
    assert found.fields[1] == NODE_FORM.fields[1]


class Mail(BaseModel):
    """As much of a message as the macros read."""

    recipients: list[str]
    recipient_count: int


@pytest.mark.parametrize(
    ("mail", "first", "all_of_them"),
    [
        (Mail(recipients=[], recipient_count=0), "none left", ""),
        (Mail(recipients=["<b>"], recipient_count=1), "&lt;b&gt;", "&lt;b&gt;"),
        (Mail(recipients=["a", "b"], recipient_count=2), "a, and 1 more", "a, b"),
        (Mail(recipients=["a", "b"], recipient_count=30), "a, and 29 more", "a, b, and 28 more"),
    ],
)
def test_recipients_are_named_and_the_others_counted(
    mail: Mail, first: str, all_of_them: str
) -> None:
    """A list of twenty is not all of thirty."""
    macros = environment("en").get_template("macros.html").module
    assert _texts(macros.first_recipient(mail)) == first
    assert _texts(macros.recipients(mail)) == all_of_them


def _texts(markup: object) -> str:
    parts = str(markup).replace('<div class="text-secondary">', "<div>").replace("</div>", "<div>")
    return ", ".join(part.strip() for part in parts.split("<div>") if part.strip())
