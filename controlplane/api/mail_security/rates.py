"""Rate limits: how much one client, sender, login or recipient domain may have in a window."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.mail_security.item_routes import ItemApi, add_item_routes
from controlplane.api.mail_security.views import PREFIX, RateView
from controlplane.core.policy_drafts import RateDraft
from controlplane.store.policy_kinds import RATES

router = APIRouter(prefix=f"{PREFIX}/rates", tags=["mail-security"])

RATES_API = ItemApi(RATES, RateDraft, RateView, "a rate limit", "rate limits")
add_item_routes(router, RATES_API)
