"""Bad words: words, phrases and regular expressions that mail must not have in it."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.mail_security.item_routes import ItemApi, add_item_routes
from controlplane.api.mail_security.views import PREFIX, BadwordView
from controlplane.core.policy_drafts import BadwordDraft
from controlplane.store.policy_kinds import BADWORDS

router = APIRouter(prefix=f"{PREFIX}/badwords", tags=["mail-security-lists"])

BADWORDS_API = ItemApi(BADWORDS, BadwordDraft, BadwordView, "a bad word", "bad words")
add_item_routes(router, BADWORDS_API)
