"""What the size of the queue does to a push and to an adoption: 30,000 messages wait."""

from __future__ import annotations

import pytest

from tests.bench.figures import (
    cluster_set,
    fill_queue,
    freezes_ms,
    jobs_done_s,
    show,
    spread_ms,
)
from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab, until

pytestmark = [pytest.mark.bench, pytest.mark.timeout(2400)]

QUEUED = 30_000
PUSHES = 100
RARE_RETRIES = {"minimal_backoff_s": 3600, "maximal_backoff_s": 7200, "queue_run_delay_s": 300}


def test_pushes_and_adoption_with_thirty_thousand_queued(lab: Lab):
    """100 pushes with 100 new messages a second; then the active host loses its power."""
    with cluster_set(lab, queue=RARE_RETRIES):
        queued = fill_queue(lab, QUEUED)
        active, standby = lab.active(), lab.standby()
        lab.set_sink("accept")
        before = len(freezes_ms(lab, active))
        with Load(lab, rate=100) as load:
            load.go_on_for(5)
            until(lambda: len(freezes_ms(lab, active)) - before >= PUSHES, "100 pushes", 400)
        freezes = freezes_ms(lab, active)[before:]
        new = account(lab, load, settle_s=5)
        new.assert_nothing_lost()
        show(f"freeze of {len(freezes)} pushes, {QUEUED} queued, 100 new/s", spread_ms(freezes))
        show("sessions refused or broken by these pushes", f"{len(new.refused) + len(new.broken)}")
        show("the load under them", str(new))

        adoptions = len(jobs_done_s(lab, standby, "PlaceAdopted"))
        lab.kill(active)
        until(
            lambda: len(jobs_done_s(lab, standby, "PlaceAdopted")) > adoptions,
            "the queue is adopted",
            120,
        )
        won_s = jobs_done_s(lab, standby, "AcquireLease")[-1]
        placed_s = jobs_done_s(lab, standby, "PlaceAdopted")[-1]
        show(f"{QUEUED} adopted and in delivery after the lease", f"{placed_s - won_s:.2f} s")
        report = account(lab, queued, settle_s=300)
        report.assert_all_delivered()
        lab.boot(active)
        lab.wait("ready")
        report = account(lab, queued)
        show("what became of them, the dead host's disk back", str(report))
        report.assert_all_delivered()
        report.assert_doubled_at_most(0)
