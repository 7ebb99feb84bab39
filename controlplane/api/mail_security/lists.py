"""Blocklist and allowlist: addresses, networks and domains that are refused, or spared."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.mail_security.item_routes import ItemApi, add_item_routes
from controlplane.api.mail_security.views import PREFIX, ListEntryView
from controlplane.core.policy_drafts import ListDraft
from controlplane.store.policy_kinds import ALLOWLIST, BLOCKLIST

blocklist = APIRouter(prefix=f"{PREFIX}/blocklist", tags=["mail-security-lists"])
allowlist = APIRouter(prefix=f"{PREFIX}/allowlist", tags=["mail-security-lists"])

BLOCKLIST_API = ItemApi(
    BLOCKLIST, ListDraft, ListEntryView, "an entry of the blocklist", "entries of the blocklist"
)
ALLOWLIST_API = ItemApi(
    ALLOWLIST, ListDraft, ListEntryView, "an entry of the allowlist", "entries of the allowlist"
)
add_item_routes(blocklist, BLOCKLIST_API)
add_item_routes(allowlist, ALLOWLIST_API)
