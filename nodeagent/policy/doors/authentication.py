"""Looks up SPF, DKIM and DMARC beside the event loop, within a deadline.

Theory of operation. A few threads ask the DNS and check signatures. Each look-up gets what is left
of the mail's deadline, so a thread ends soon after it, and is waited for a while longer: what it
found of others counts, however late it is. A mail whose threads are all taken waits no longer
either: what was not found out by then is "temperror", never "fail".

A stranger chooses names that nobody answers for, and must not hide by that what others publish: so
the author's record is asked for first, SPF has a share of the time, and of the signatures those
that can speak for the author come first.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.doors.dkim_check import check_dkim
from nodeagent.policy.doors.dmarc_check import find_author
from nodeagent.policy.doors.dns_client import DnsClient, Lookup
from nodeagent.policy.doors.spf_check import check_spf, spf_domain
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    Result,
    SpfCheck,
)
from nodeagent.policy.model import Envelope, Message, Session

THREADS: Final = 64  # nearly all of them wait for the DNS
DEADLINE_S: Final = 5.0
SHARE_OF_DECISION: Final = 0.5  # of what a decision may take: then nothing is asked any more
SHARE_OF_WAIT: Final = 0.8  # of the same: what is found by then counts, and there is time to decide
SHARE_OF_SPF: Final = 0.4  # of what is left for a mail


class Authenticator:
    """Checks mails; `client` is the host's own resolvers if it is not given."""

    def __init__(
        self,
        client: DnsClient | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        threads: int = THREADS,
    ) -> None:
        self._client = client or DnsClient()
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="authentication")

    async def check(
        self,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        settings: PolicySettings,
    ) -> AuthenticationResults:
        """Return what the settings ask for; without a message SPF alone. Raises nothing."""
        if not any(one.is_enabled for one in (settings.spf, settings.dkim, settings.dmarc)):
            return AuthenticationResults()
        within_s = settings.decision_timeout_s
        allowed_s = min(self._deadline_s, within_s * SHARE_OF_DECISION)
        lookup = Lookup(self._client, time.monotonic() + allowed_s)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(
            self._pool, _check, session, envelope, message, settings, lookup
        )
        try:
            return await asyncio.wait_for(work, within_s * SHARE_OF_WAIT)
        except TimeoutError:
            return _unknown(message, settings)

    def close(self) -> None:
        """Take no more mails; what is being looked up ends by its deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _check(
    session: Session,
    envelope: Envelope,
    message: Message | None,
    settings: PolicySettings,
    lookup: Lookup,
) -> AuthenticationResults:
    """Check in a thread what is asked for, and what DMARC needs of the others."""
    wants_spf, wants_dkim = settings.spf.is_enabled, settings.dkim.is_enabled
    author = None
    if settings.dmarc.is_enabled and message is not None:
        author = find_author(message, lookup)
    spf = SpfCheck(Result.NONE)
    if wants_spf or (author and author.may_speak(spf_domain(session.helo, envelope.sender))):
        in_time = lookup.with_share(SHARE_OF_SPF)
        spf = check_spf(session.client, session.helo, envelope.sender, in_time)
    dkim: tuple[DkimCheck, ...] = ()
    if message is not None and (wants_dkim or author):
        matters = author.may_speak if author else None
        dkim = check_dkim(message, lookup, matters, has_others=wants_dkim)
    return AuthenticationResults(
        spf=spf if wants_spf else None,
        dkim=dkim if wants_dkim and message is not None else None,
        dmarc=author.judge(spf, dkim) if author else None,
    )


def _unknown(message: Message | None, settings: PolicySettings) -> AuthenticationResults:
    """Return what is said of a mail that nothing could be found out about in time."""
    return AuthenticationResults(
        spf=SpfCheck(Result.TEMPERROR) if settings.spf.is_enabled else None,
        dkim=(DkimCheck(Result.TEMPERROR),) if settings.dkim.is_enabled and message else None,
        dmarc=DmarcCheck(Result.TEMPERROR) if settings.dmarc.is_enabled and message else None,
    )
