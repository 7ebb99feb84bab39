"""The forms of VIPs; the list stands on the cluster's page."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.cluster_access import StoreDep
from controlplane.api.vips import VipBody
from controlplane.core.spec import VipSpec
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.cluster_settings import PAGE
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.mail import IN_USE, MAX_KEY
from controlplane.gui.mail_lists import build_given
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.nouns import VIPS

router = page_router()

ADDRESS: Final = Field(
    "address",
    N_("Address"),
    hint=N_("A free address of the nodes' network; clients and MX records name it."),
    is_required=True,
    attributes={"autocomplete": "off", "maxlength": "64"},
)
FIELDS: Final = (
    Field(
        "virtual_router_id",
        N_("Virtual router id"),
        hint=N_("1 to 255, used by nobody else in the network segment."),
        widget=Widget.NUMBER,
        is_required=True,
        attributes={"min": "1", "max": "255"},
    ),
    Field(
        "prefix_len",
        N_("Prefix length"),
        hint=N_("Empty: as the nodes' network."),
        widget=Widget.NUMBER,
        attributes={"min": "8", "max": "128"},
    ),
    Field(
        "interface",
        N_("Interface"),
        hint=N_("Where the address goes; empty: each node's own interface."),
        attributes={"autocomplete": "off", "maxlength": "15"},
    ),
)
NEW: Final = Form((ADDRESS, *FIELDS))
CHANGE: Final = Form(FIELDS)


@router.get("/cluster/vips/new")
def new_page(shell: AdminShell) -> Response:
    """Show the empty form."""
    return _page(shell, NEW.filled(), None)


@router.post("/cluster/vips/new")
def add_vip(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Add a VIP; one that is there already is not overwritten."""
    form = NEW.posted(posted)
    try:
        vip = _build(form, form.required("address").strip())
        key = VIPS.key_of(vip)
        if key in {VIPS.key_of(one) for one in store.items(VIPS)}:
            raise Invalid(IN_USE, {"address": IN_USE})
        store.put_item(VIPS, vip, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _page(shell, form.refused(error), None, status=error.status)
    return _saved(shell, key)


@router.get("/cluster/vips/edit")
def edit_page(key: str, shell: ReadShell, store: StoreDep) -> Response:
    """Show one VIP."""
    vip = store.item(VIPS, key[:MAX_KEY])
    return _page(shell, CHANGE.filled(vip), vip.address)


@router.post("/cluster/vips/edit")
def save_vip(key: str, shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Change one VIP; raises NotFound."""
    address = store.item(VIPS, key[:MAX_KEY]).address
    form = CHANGE.posted(posted)
    try:
        store.put_item(VIPS, _build(form, address), shell.signed_in.actor)
    except ControlPlaneError as error:
        return _page(shell, form.refused(error), address, status=error.status)
    return _saved(shell, address)


@router.post("/cluster/vips/delete")
def remove_vip(key: str, shell: AdminShell, store: StoreDep) -> Response:
    """Remove one VIP."""
    store.delete_item(VIPS, key[:MAX_KEY], shell.signed_in.actor)
    notice = N_("%(name)s is removed; the nodes follow with the next apply.")
    return shell.done(PAGE, shell.text(notice, name=key))


def _build(form: FilledForm, address: str) -> VipSpec:
    form.required("virtual_router_id")
    return VipSpec(address=address, **dict(build_given(form, VipBody)))


def _saved(shell: Shell, address: str) -> Response:
    notice = N_("%(name)s is saved; it reaches the nodes with the next apply.")
    return shell.done(PAGE, shell.text(notice, name=address))


def _page(shell: Shell, form: FilledForm, address: str | None, *, status: int = 200) -> Response:
    return shell.page("vip.html", status=status, form=form, address=address)
