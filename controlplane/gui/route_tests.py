"""Trying a route, as pages: which recipient, which node, and the dialogue line by line."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.cluster_access import StoreDep
from controlplane.api.route_tests import RouteTestBody, TestKey, read_route_test
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.node_options import with_nodes
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import ROUTES
from controlplane.store.route_tests import request_test

router = page_router()

MAX_KEY: Final = 320
ACTIVE: Final = Option("", N_("the active node"))
TRY: Final = Form(
    (
        Field(
            "recipient",
            N_("Recipient"),
            hint=N_("An address that the next hop should take; no message is sent."),
            is_required=True,
            attributes={"maxlength": "320", "autocomplete": "off"},
        ),
        Field(
            "node",
            N_("Node"),
            hint=N_("Which host connects: its network and its trusted CAs decide."),
            widget=Widget.SELECT,
            options=(ACTIVE,),
        ),
    ),
    submit=N_("Try this route"),
)


@router.get("/mail/routes/try")
def try_page(key: str, shell: OperateShell, store: StoreDep) -> Response:
    """Show the form of one route."""
    return _page(shell, store, key, TRY.filled())


@router.post("/mail/routes/try")
def try_route(key: str, shell: OperateShell, posted: Posted, store: StoreDep) -> Response:
    """Ask a node to try the route, and show what comes of it."""
    form = TRY.posted(posted)
    try:
        body = form.build(RouteTestBody, sender=key)
        row = request_test(store, body.sender, body.recipient, body.node, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _page(shell, store, key, form.refused(error), status=error.status)
    return shell.redirect(f"/mail/routes/tests/{row.id}")


@router.get("/mail/routes/tests/{number}")
def test_page(number: TestKey, shell: ReadShell, store: StoreDep) -> Response:
    """Show a test; the page asks again until the node has reported."""
    return shell.page("route_test.html", block="result", test=read_route_test(number, store))


def _page(
    shell: Shell, store: ClusterStore, key: str, form: FilledForm, *, status: int = 200
) -> Response:
    route = store.item(ROUTES, key[:MAX_KEY])
    with store.database.read() as session:
        filled = with_nodes(session, form, ACTIVE)
    return shell.page("route_try.html", status=status, form=filled, route=route, key=key)
