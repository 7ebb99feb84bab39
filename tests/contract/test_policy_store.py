"""The mail policy in the database: what is edited is published once, and never an older state."""

from __future__ import annotations

import io
import threading
import time

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlmodel import select

from controlplane.core.policy_drafts import (
    BadwordDraft,
    CategoryDraft,
    ListDraft,
    NamedSubscriptionDraft,
    RateDraft,
    SubscriptionDraft,
)
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import policy_items, policy_publication
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore, cluster_row
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import POLICY_LOCK, RATES_LOCK, Database
from controlplane.store.instance import mark_restored
from controlplane.store.policy_counts import (
    counts_since,
    kept_buckets,
    prune_rate_counts,
    take_counts,
)
from controlplane.store.policy_imports import FileKind, import_file
from controlplane.store.policy_kinds import (
    ALLOWLIST,
    BADWORDS,
    BLOCKLIST,
    CATEGORIES,
    RATES,
    SUBSCRIPTIONS,
)
from controlplane.store.policy_publication import (
    publish,
    publish_abandoned,
    read_body,
    read_manifest,
    touch,
)
from controlplane.store.policy_revision import RESTORED, read_revision, take_numbers
from controlplane.store.policy_subscriptions import named_subscriptions
from controlplane.store.policy_tables import ListEntryRow, PolicySectionRow, RateCountRow
from controlplane.store.policy_upkeep import drop_expired, drop_old_counts
from controlplane.store.state_files import export_state, plan_state
from nodeagent.policy.document import (
    ENTRIES_A_SECTION,
    ListEntry,
    Listing,
    Manifest,
    RateSubject,
    RateWindow,
    SectionKind,
)
from nodeagent.policy.engine.rates import WINDOW_S, bucket_of
from nodeagent.policy.engine.sections import Entry, pack_section, read_section
from nodeagent.policy.sync_wire import RateCount

WHO = Actor("olga")
BOX = SecretBox(Fernet.generate_key())
ONE, TWO = "1" * 32, "2" * 32
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def manifest(database: Database) -> Manifest:
    """Return the policy as nodes get it."""
    with database.read() as session:
        return read_manifest(session, BOX)


def published(database: Database) -> dict[SectionKind, list[Entry]]:
    """Return all entries that nodes get."""
    found: dict[SectionKind, list[Entry]] = {}
    with database.read() as session:
        for section in read_manifest(session, BOX).sections:
            entries = read_section(section, read_body(session, section.sha256))
            found.setdefault(section.kind, []).extend(entries)
    return found


def values(database: Database) -> list[str]:
    """Return the values of the lists that nodes get."""
    return [one.value for one in published(database).get(SectionKind.LIST, [])]  # type: ignore[union-attr]


def block(database: Database, value: str, **others: object) -> int:
    """Put one entry on the blocklist; return its id."""
    draft = ListDraft(value=value, **others)  # type: ignore[arg-type]
    return int(policy_items.put(database, BLOCKLIST, draft, WHO)[0]["id"])


def csv(lines: list[str]) -> io.BytesIO:
    """Return a file."""
    return io.BytesIO("\n".join(["value", *lines]).encode())


def test_every_kind_of_entry_reaches_the_nodes_as_it_was_written(database: Database) -> None:
    """On both databases, with every field that is not its default."""
    block(database, "192.0.2.0/24", reason="größer", expires_at="2099-12-31T00:00:00Z")
    policy_items.create(database, ALLOWLIST, ListDraft(value="a@example.com"), WHO)
    word = BadwordDraft(pattern="Gewinn|Lotto", is_regex=True, severity="high", category="spam")
    policy_items.create(database, BADWORDS, word, WHO)
    rate = RateDraft(subject="login", window="day", limit=2**31 - 1, verdict="reject")
    policy_items.create(database, RATES, rate, WHO)
    category = CategoryDraft(address="news@example.com", allowed_senders=["a@example.com"])
    made = policy_items.create(database, CATEGORIES, category, WHO)
    reader = SubscriptionDraft(address="r@example.net")
    policy_items.create(database, SUBSCRIPTIONS.within(category=made["id"]), reader, WHO)
    found = published(database)
    assert [(one.id, one.listing, one.value) for one in found[SectionKind.LIST]] == [  # type: ignore[union-attr]
        (1, "block", "192.0.2.0/24"),
        (2, "allow", "a@example.com"),
    ]
    assert found[SectionKind.LIST][0].expires_at == 4_102_358_400.0  # type: ignore[union-attr]
    (badword,) = found[SectionKind.BADWORDS]
    assert (badword.pattern, badword.severity) == ("Gewinn|Lotto", "high")  # type: ignore[union-attr]
    (limit,) = found[SectionKind.RATES]
    assert (limit.subject, limit.limit) == (RateSubject.LOGIN, 2**31 - 1)  # type: ignore[union-attr]
    (subscription,) = found[SectionKind.SUBSCRIPTIONS]
    assert subscription.category == found[SectionKind.CATEGORIES][0].id  # type: ignore[union-attr]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.text(LETTERS, min_size=1, max_size=40),
            st.text(LETTERS, max_size=40),
            st.none() | st.floats(4e9, 9e11),
        ),
        max_size=8,
        unique_by=lambda one: one[1],
    )
)
def test_a_list_is_written_as_its_model_writes_it(
    database: Database, rows: list[tuple[bool, str, str, float | None]]
) -> None:
    """The same entries have the same name, whoever packs them: quotes, backslashes, any letter."""
    with database.write(POLICY_LOCK) as session:
        session.execute(delete(ListEntryRow))
        entries = [
            ListEntry(
                id=number,
                listing=Listing.ALLOW if is_allowed else Listing.BLOCK,
                value=value,
                reason=reason,
                expires_at=expires_at,
            )
            for number, (is_allowed, value, reason, expires_at) in enumerate(rows, start=1)
        ]
        for entry in entries:
            session.add(ListEntryRow(**entry.model_dump(mode="json"), created_at=0.0))
        places = touch(session, SectionKind.LIST, [1])
    publish(database, places)
    wanted = pack_section(SectionKind.LIST, 0, entries).section
    assert manifest(database).sections == ((wanted,) if entries else ())


def test_an_entry_stands_in_the_section_of_its_id(database: Database) -> None:
    """One edit among many packs one section, and the others keep their names."""
    with database.write(POLICY_LOCK) as session:
        take_numbers(session, SectionKind.LIST.value, ENTRIES_A_SECTION - 2)
    assert block(database, "a.test") == ENTRIES_A_SECTION - 1
    assert block(database, "b.test") == ENTRIES_A_SECTION
    first, second = manifest(database).sections
    assert [(one.number, one.entries) for one in (first, second)] == [(0, 1), (1, 1)]
    block(database, "b.test", reason="changed")
    again = manifest(database).sections
    assert again[0] == first
    assert again[1].sha256 != second.sha256


def test_an_edit_that_changes_nothing_for_the_nodes_leaves_the_revision(
    database: Database,
) -> None:
    """They would fetch and compile for nothing."""
    block(database, "a.test")
    before = manifest(database)
    block(database, "a.test")
    assert manifest(database) == before


def test_every_change_of_the_cluster_raises_the_revision(database: Database) -> None:
    """Networks, domains and nodes are a part of the manifest."""
    before = manifest(database).revision
    with database.write() as session:
        cluster_row(session).revision += 1
    assert manifest(database).revision == before + 1


def test_a_restored_database_goes_on_far_above(database: Database) -> None:
    """Nodes may have seen revisions that the backup does not know; none may come again."""
    block(database, "a.test")
    before = manifest(database).revision
    with database.write() as session:
        mark_restored(session)
    assert manifest(database).revision == before + RESTORED


def test_the_last_entry_of_a_section_takes_it_along(database: Database) -> None:
    """An empty section is not in the manifest, and comes back with the next entry."""
    number = block(database, "a.test")
    policy_items.remove(database, BLOCKLIST, number, WHO)
    assert manifest(database).sections == ()
    block(database, "b.test")
    assert values(database) == ["b.test"]


def test_what_a_crash_left_unpublished_is_published_by_the_job(database: Database) -> None:
    """The edit is there, its section was not packed: killed between the two transactions."""
    block(database, "a.test")
    with database.write(POLICY_LOCK) as session:
        done = policy_items.put_many(
            session,
            BLOCKLIST,
            [{"listing": "block", "value": "b.test", "reason": "", "expires_at": None}],
            "olga",
        )
    assert len(done.places) == 1
    assert values(database) == ["a.test"]
    assert publish_abandoned(database) == 0, "somebody may be at it"
    assert publish_abandoned(database, older_s=0) == 1
    assert values(database) == ["a.test", "b.test"]
    assert publish_abandoned(database, older_s=0) == 0


def test_an_older_state_never_replaces_a_newer_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two publishers; the one that packed first stores last."""
    block(database, "a.test")
    packed = policy_publication._pack
    is_first = [True]

    def pack_late(*args: object) -> object:
        found = packed(*args)  # type: ignore[arg-type]
        if is_first.pop() if is_first else False:
            block(database, "c.test")
        return found

    monkeypatch.setattr(policy_publication, "_pack", pack_late)
    block(database, "b.test")
    assert values(database) == ["a.test", "b.test", "c.test"]


def test_editors_at_the_same_time_lose_nothing(database: Database) -> None:
    """Each edit is answered when it is published, or a newer state is."""
    wrong: list[str] = []

    def edit(name: str) -> None:
        for number in range(8):
            value = f"{name}{number}.test"
            block(database, value)
            if value not in values(database):
                wrong.append(value)

    threads = [threading.Thread(target=edit, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(values(database)) == 24
    with database.read() as session:
        ids = session.exec(select(ListEntryRow.id)).all()
    assert sorted(ids) == list(range(1, 25))


def test_expired_entries_are_not_published_and_then_dropped(database: Database) -> None:
    """One audit row for all of them; what has time left stays."""
    for number in range(5):
        block(database, f"old{number}.test", expires_at="2001-01-01T00:00:00Z")
    block(database, "new.test", expires_at="2099-01-01T00:00:00Z")
    policy_items.create(database, ALLOWLIST, ListDraft(value="kept.test"), WHO)
    assert values(database) == ["new.test", "kept.test"]
    assert drop_expired(database) == 5
    assert drop_expired(database) == 0
    with database.read() as session:
        assert policy_items.count(session, BLOCKLIST) == 1
        (row,) = list_entries(session, AuditFilter(action="blocklist.expire"))
    assert (row.actor, (row.after or {})["counts"]["removed"]) == ("system", 5)
    assert values(database) == ["new.test", "kept.test"]


def test_an_entry_that_expires_while_it_is_published_goes_with_the_job(
    database: Database,
) -> None:
    """The nodes look at the time themselves; the section follows."""
    with database.read() as session:
        soon_s = read_clock_s(session) + 0.2
    number = block(database, "soon.test")
    with database.write(POLICY_LOCK) as session:
        row = session.get_one(ListEntryRow, number)
        row.expires_at = soon_s
        session.add(row)
        places = touch(session, SectionKind.LIST, [number])
    publish(database, places)
    deadline_s = time.monotonic() + 60
    while not drop_expired(database):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert values(database) == []


def test_a_large_file_is_written_in_parts_and_published_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction is longer than a part; each section is packed in the end."""
    packs: list[int] = []
    packed = policy_publication._pack

    def note(kind: SectionKind, number: int, lines: list[str]) -> object:
        packs.append(number)
        return packed(kind, number, lines)

    monkeypatch.setattr(policy_publication, "_pack", note)
    with database.write(POLICY_LOCK) as session:
        take_numbers(session, SectionKind.LIST.value, ENTRIES_A_SECTION - 1000)
    lines = [f"d{number}.test" for number in range(3500)]
    done = import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=False)
    assert (done.added, packs) == (3500, [0, 1])
    assert values(database) == sorted(lines)
    with database.read() as session:
        (row,) = list_entries(session, AuditFilter(action="blocklist.import"))
    assert (row.after or {})["counts"]["added"] == 3500


def test_heartbeats_fit_between_the_parts_of_an_import(database: Database) -> None:
    """On SQLite there is one writer: whoever is urgent gets the next turn, however long a file."""
    lines = [f"d{number}.test" for number in range(6000)]
    done = threading.Event()

    def load() -> None:
        import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=False)
        done.set()

    thread = threading.Thread(target=load)
    thread.start()
    beats = 0
    while not done.is_set():
        with database.write() as session:
            cluster_row(session).revision += 1
        beats += 1
        done.wait(0.02)
    thread.join()
    assert beats > 1
    assert len(values(database)) == 6000


def test_an_import_that_replaces_keeps_what_it_names(database: Database) -> None:
    """By its value, also when it is not changed; the other list is not touched."""
    for value in ("a.test", "b.test", "c.test"):
        block(database, value)
    policy_items.create(database, ALLOWLIST, ListDraft(value="z.test"), WHO)
    file = csv(["C.test", "d.test", "a.test"])
    done = import_file(database, BLOCKLIST, file, FileKind.CSV, WHO, replace=True)
    assert done.counts == {"added": 1, "changed": 0, "unchanged": 2, "removed": 1}
    assert sorted(values(database)) == ["a.test", "c.test", "d.test", "z.test"]


def test_a_file_that_names_a_value_twice_counts_it_once(database: Database) -> None:
    """The later line counts, also from one part to the next."""
    text = "value,reason\n" + "".join(f"d{n}.test,first\n" for n in range(1500))
    text += "d3.test,second\n"
    file = io.BytesIO(text.encode())
    done = import_file(database, BLOCKLIST, file, FileKind.CSV, WHO, replace=True)
    assert (done.added, done.changed, done.removed) == (1500, 0, 0)
    with database.read() as session:
        row = policy_items.find_item(session, BLOCKLIST, value="d3.test")
    assert row["reason"] == "second"


def test_a_bad_line_in_a_later_part_changes_nothing(database: Database) -> None:
    """Everything is checked before anything is written."""
    lines = [*(f"d{number}.test" for number in range(2500)), "no value"]
    with pytest.raises(Invalid, match="1 of 2501 entry cannot be used"):
        import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=True)
    assert manifest(database).sections == ()


def test_what_is_the_same_is_found_by_all_that_makes_it_so(database: Database) -> None:
    """A word and a regular expression of the same letters are two entries."""
    policy_items.create(database, BADWORDS, BadwordDraft(pattern="casino"), WHO)
    regex = BadwordDraft(pattern="casino", is_regex=True)
    policy_items.create(database, BADWORDS, regex, WHO)
    with pytest.raises(Conflict, match='"casino" is there already, as number 2'):
        policy_items.create(database, BADWORDS, regex, WHO)
    rate = RateDraft(subject="sender", window="hour", limit=5)
    policy_items.create(database, RATES, rate, WHO)
    policy_items.create(database, RATES, rate.model_copy(update={"window": RateWindow.DAY}), WHO)
    with pytest.raises(Conflict):
        policy_items.create(database, RATES, rate, WHO)
    with pytest.raises(NotFound):
        policy_items.remove(database, RATES, 3, WHO)


def test_nobody_subscribes_to_a_category_that_was_just_deleted(database: Database) -> None:
    """It was there when its address was looked up."""
    category = policy_items.create(
        database, CATEGORIES, CategoryDraft(address="news@example.com"), WHO
    )
    subscriptions = SUBSCRIPTIONS.within(category=category["id"])
    policy_items.put(database, subscriptions, SubscriptionDraft(address="a@b.test"), WHO)
    policy_items.remove(database, CATEGORIES, category["id"], WHO)
    with pytest.raises(Conflict, match="deleted meanwhile"):
        policy_items.put(database, subscriptions, SubscriptionDraft(address="c@b.test"), WHO)
    assert published(database) == {}


def test_no_subscription_moves_to_a_category_that_was_just_deleted(database: Database) -> None:
    """It was there when its address was looked up; the state goes out and comes in as before."""
    for name in ("news", "gone"):
        draft = CategoryDraft(address=f"{name}@example.com")
        category = policy_items.create(database, CATEGORIES, draft, WHO)
    with database.read() as session:
        named = named_subscriptions(session)
    drafts = [
        NamedSubscriptionDraft(category=f"{name}@example.com", address="a@b.test")
        for name in ("news", "gone")
    ]
    made = policy_items.create(database, named, drafts[0], WHO)
    policy_items.remove(database, CATEGORIES, category["id"], WHO)
    before = manifest(database)
    with pytest.raises(Conflict, match="deleted meanwhile"):
        policy_items.replace_item(database, named, made["id"], drafts[1], WHO)
    assert manifest(database) == before
    with database.read() as session:
        assert policy_items.read_item(session, SUBSCRIPTIONS, made["id"]) == made
        assert list_entries(session, AuditFilter(action="subscription.update")) == []
    store = ClusterStore(database, BOX)
    assert plan_state(store, export_state(store)).is_empty


def take(database: Database, source: str, *counts: RateCount) -> int:
    """Take counts in as one call does."""
    with database.write(RATES_LOCK) as session:
        return take_counts(session, source, counts)


def buckets(database: Database, ago_s: float) -> dict[RateWindow, int]:
    """Return the buckets of a moment."""
    with database.read() as session:
        then_s = read_clock_s(session) - ago_s
    return {window: bucket_of(window, then_s) for window in RateWindow}


def counted(window: RateWindow, bucket: int, number: int, count: int) -> RateCount:
    """Return a count."""
    return RateCount(window=window, bucket=bucket, key=f"{number:032x}", count=count)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([ONE, TWO]),
            st.sampled_from(list(RateWindow)),
            st.integers(0, 3),
            st.integers(1, 9),
        ),
        max_size=12,
    )
)
def test_in_whatever_order_counts_come_the_highest_holds(
    database: Database, told: list[tuple[str, RateWindow, int, int]]
) -> None:
    """Each reader, also one that asks after each telling, ends with the same."""
    with database.write(RATES_LOCK) as session:
        for row in session.exec(select(RateCountRow)).all():
            session.delete(row)
    now = buckets(database, 0)
    wanted: dict[tuple[str, RateWindow, int], int] = {}
    known: dict[tuple[str, RateWindow, int], int] = {}
    with database.read() as session:
        _, seen, _ = counts_since(session, "f" * 32, 0)
    for source, window, number, count in told:
        take(database, source, counted(window, now[window], number, count))
        key = (source, window, number)
        wanted[key] = max(wanted.get(key, 0), count)
        with database.read() as session:
            news, seen, _ = counts_since(session, "f" * 32, seen)
        known |= {(one.source, one.window, int(one.key, 16)): one.count for one in news}
    assert known == wanted


def test_buckets_that_no_window_looks_at_any_more_go(database: Database) -> None:
    """What comes late for them is not taken in again; the last one before this one stays."""
    now = buckets(database, 0)
    fresh = [counted(window, bucket, 1, 1) for window, bucket in now.items()]
    before = [counted(window, bucket - 1, 1, 1) for window, bucket in now.items()]
    old = [counted(window, bucket - 20, 1, 1) for window, bucket in now.items()]
    assert take(database, ONE, *fresh, *before) == 6
    assert take(database, ONE, *old) == 0
    assert drop_old_counts(database) == 0
    with database.write(RATES_LOCK) as session:
        for row in session.exec(select(RateCountRow)).all():
            if row.bucket == now[RateWindow(row.window)] - 1:
                session.add(RateCountRow(**row.model_dump() | {"bucket": row.bucket - 20}))
                session.delete(row)
    with database.write(RATES_LOCK) as session:
        assert prune_rate_counts(session) == 3
    with database.read() as session:
        left = session.exec(select(RateCountRow)).all()
    assert {row.bucket for row in left} == set(now.values())


def test_no_bucket_of_the_future_is_taken_or_kept(database: Database) -> None:
    """A clock may be ahead by one bucket; what a node makes up would stay for ever."""
    now = buckets(database, 0)
    ahead = [counted(window, bucket + 1, 1, 1) for window, bucket in now.items()]
    beyond = [counted(window, bucket + 3, 2, 1) for window, bucket in now.items()]
    never = [counted(window, 2**40 - 1, 3, 1) for window in now]
    assert take(database, ONE, *never, *beyond, *ahead) == 3
    with database.write(RATES_LOCK) as session:
        for row in session.exec(select(RateCountRow)).all():
            assert row.bucket == now[RateWindow(row.window)] + 1
            news = {"bucket": 2**40 - 1, "change": row.change + 1000}
            session.add(RateCountRow(**row.model_dump() | news))
    with database.write(RATES_LOCK) as session:
        assert prune_rate_counts(session) == 3
        left = session.exec(select(RateCountRow)).all()
    assert {(RateWindow(row.window), row.bucket) for row in left} == {
        (window, bucket + 1) for window, bucket in now.items()
    }


@given(st.floats(1e9, 4e9))
@example(20_000 * 86_400.0)
@example(20_000 * 86_400.0 - 1)
@example(20_000 * 86_400.0 + 86_399)
def test_rate_data_is_kept_for_24_hours_at_most(now_s: float) -> None:
    """Counted from the end of a bucket, at any time of the day; all that a rate reads is there."""
    for window, kept in kept_buckets(now_s).items():
        ended_s = (kept[0] + 1) * WINDOW_S[window]
        assert ended_s + 86_400 > now_s
        assert kept[0] <= bucket_of(window, now_s) - 1
        assert kept[-1] == bucket_of(window, now_s) + 1


def test_sections_are_packed_outside_of_the_writing_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every heartbeat would wait for a full section: here one is taken in while it is packed."""
    packed = policy_publication._pack

    def beat_meanwhile(*args: object) -> object:
        with database.write() as session:
            cluster_row(session).revision += 1
        return packed(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_publication, "_pack", beat_meanwhile)
    block(database, "a.test")
    assert values(database) == ["a.test"]
    with database.read() as session:
        assert read_revision(session) == 2
        section = session.exec(select(PolicySectionRow)).one()
    assert section.edits == section.packed_edits == 1
