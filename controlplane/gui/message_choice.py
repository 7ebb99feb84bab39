"""What lists of queued messages share: messages are chosen, acted upon and looked into.

Chosen is what is ticked, or all that the list's filters leave. An action runs on the nodes; one
that destroys mail waits on a page of its own until its count is confirmed. What only the node has
is asked for, and shown on the page of the message once it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from fastapi import Response
from pydantic import BaseModel, ValidationError
from sqlmodel import Session

from controlplane.api.queue_actions import ActionView
from controlplane.errors import Invalid
from controlplane.gui.forms import Form
from controlplane.gui.language import N_
from controlplane.gui.shell import Shell
from controlplane.store.crypto import SecretBox
from controlplane.store.queue_headers import Headers, read_headers

ActionT = TypeVar("ActionT", bound=BaseModel)
ChosenT = TypeVar("ChosenT", bound=BaseModel)
MOST_DIGITS: Final = 9


def posted_action(
    posted: Mapping[str, list[str]],
    filters: Form,
    page: type[ChosenT],
    chosen: type[ChosenT],
    action: type[ActionT],
) -> ActionT:
    """Return what is to be done, and with what; raises Invalid for what no page of ours sends.

    `page` is what a page of the list is asked for with: `chosen`, and its place.
    """
    values: dict[str, Any] = {"verb": (posted.get("verb") or [""])[0]}
    if posted.get("everything"):
        shown = filters.posted(posted).build(page)
        values["filter"] = shown.model_dump(include=set(chosen.model_fields))
    else:
        keys = [one.partition("/") for one in posted.get("message", [])]
        if not keys:
            raise Invalid("Choose messages first.")
        values["messages"] = [{"node": node, "queue_id": one} for node, _slash, one in keys]
    try:
        return action.model_validate(values)
    except ValidationError as error:
        raise Invalid("Some values cannot be used; nothing was changed.") from error


def show_begun(shell: Shell, action: ActionView) -> Response:
    """Answer with the way to the actions, or to the question whether this one is meant."""
    if action.state.value == "unconfirmed":
        return shell.redirect(f"/queue/actions/{action.id}")
    return shell.done("/queue/actions", shell.text(N_("Action %(number)s."), number=action.id))


def read_asked(shell: Shell, session: Session, box: SecretBox, parameter: str) -> Headers | None:
    """Return the answer whose number stands in the address; None: nothing was asked for."""
    number = shell.request.query_params.get(parameter, "")
    if not number.isdecimal() or not shell.may("operate"):
        return None
    request = int(number[:MOST_DIGITS])
    return read_headers(session, request, shell.signed_in.actor.name, box)
