"""Imports into the policy's lists: all or nothing for the nodes, whenever and whoever is killed."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from controlplane.core.policy_drafts import CategoryDraft, ListDraft, SubscriptionDraft
from controlplane.errors import Conflict, Invalid
from controlplane.store import policy_import_steps, policy_imports, policy_items
from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_import_steps import ImportSteps, begin, resume
from controlplane.store.policy_imports import FileKind, import_file, preview_file
from controlplane.store.policy_items import Changes
from controlplane.store.policy_kinds import (
    ALLOWLIST,
    BADWORDS,
    BLOCKLIST,
    CATEGORIES,
    SUBSCRIPTIONS,
    Kind,
)
from controlplane.store.policy_publication import publish_abandoned, publish_within, touch
from controlplane.store.policy_revision import take_numbers
from controlplane.store.policy_tables import (
    ListEntryRow,
    PolicyImportPartRow,
    PolicyImportRow,
)
from nodeagent.policy.document import ENTRIES_A_SECTION, SectionKind
from tests.contract.test_policy_store import WHO, block, csv, manifest, published, values

OLD = {"a.test": "", "b.test": "", "c.test": "why", "d.test": ""}
NEW = {"b.test": "", "c.test": "other", **{f"n{number:02}.test": "" for number in range(13)}}


class Killed(BaseException):
    """The process is gone: nothing in it runs any more."""


class Dying(Database):
    """A database of a process that dies before its n-th writing transaction."""

    def __init__(self, url: str, lives: int) -> None:
        super().__init__(url)
        self.lives = lives

    @contextmanager
    def write(self, *args: int, **kwargs: bool) -> Iterator[Session]:
        """Give the transaction while there is a process."""
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        with super().write(*args, **kwargs) as session:
            yield session


def file_of(reasons: dict[str, str]) -> io.BytesIO:
    """Return a file."""
    lines = "".join(f"{value},{reason}\n" for value, reason in reasons.items())
    return io.BytesIO(f"value,reason\n{lines}".encode())


def listed(database: Database, kind: Kind = BLOCKLIST) -> dict[str, str]:
    """Return the list as it is in the database."""
    with database.read() as session:
        rows = policy_items.read_page(session, kind, policy_items.Wanted(limit=1000)).rows
    return {row["value"]: row["reason"] for row in rows}


def told(database: Database) -> dict[str, str]:
    """Return the list as nodes get it."""
    entries = published(database).get(SectionKind.LIST, [])
    return {one.value: one.reason for one in entries}  # type: ignore[union-attr]


def kept_rows(database: Database) -> int:
    """Return how much is left of imports."""
    with database.read() as session:
        imports = session.exec(select(PolicyImportRow)).all()
        parts = session.exec(select(PolicyImportPartRow)).all()
    return len(imports) + len(parts)


def set_list(database: Database, reasons: dict[str, str]) -> None:
    """Have just these on the blocklist, published."""
    import_file(database, BLOCKLIST, file_of(reasons), FileKind.CSV, WHO, replace=True)
    assert told(database) == reasons


def committed(database: Database, reasons: dict[str, str], kind: Kind = BLOCKLIST) -> ImportSteps:
    """Return an import that was decided and not carried out yet."""
    steps = begin(database, kind, "import:olga")
    rows = [{"value": v, "reason": r, "expires_at": None, **kind.scope} for v, r in reasons.items()]
    steps.keep(put=rows)
    steps.commit(WHO, Changes(added=len(rows)))
    return steps


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have parts of four entries."""
    monkeypatch.setattr(policy_import_steps, "PART", 4)
    monkeypatch.setattr(policy_imports, "PART", 4)


@pytest.mark.usefixtures("small_parts")
def test_whenever_it_is_killed_an_import_is_done_wholly_or_not_at_all(database: Database) -> None:
    """At each of its transactions; what is left is carried out, or cleaned up."""
    url = database.engine.url.render_as_string(hide_password=False)
    ends = []
    for lives in range(100):
        set_list(database, OLD)
        dying = Dying(url, lives)
        is_done = True
        try:
            import_file(dying, BLOCKLIST, file_of(NEW), FileKind.CSV, WHO, replace=True)
        except Killed:
            is_done = False
        assert told(database) in (OLD, NEW), "nodes never get a half"
        dying.close()
        resume(database, older_s=-1)
        assert told(database) == listed(database)
        ends.append(told(database))
        assert kept_rows(database) == 0
        if is_done:
            break
    assert ends[0] == OLD
    assert ends[-1] == NEW
    first_new = ends.index(NEW)
    assert set(map(str, ends[first_new:])) == {str(ends[-1])}, "once committed it is carried out"
    assert len(ends) > 10, "there were parts"


def test_a_large_import_is_one_revision(database: Database) -> None:
    """However many sections it touches, each node fetches one manifest."""
    with database.write(POLICY_LOCK) as session:
        take_numbers(session, SectionKind.LIST.value, ENTRIES_A_SECTION - 500)
    before = manifest(database).revision
    lines = [f"d{number}.test" for number in range(1500)]
    import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=False)
    after = manifest(database)
    assert (after.revision, len(after.sections)) == (before + 1, 2)
    import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=False)
    assert manifest(database) == after


def test_what_is_edited_meanwhile_reaches_the_nodes_with_the_import(database: Database) -> None:
    """Not with a half of it; the job holds back as well. Other kinds are not held."""
    block(database, "before.test")
    steps = committed(database, NEW)
    assert steps._write(steps._do_next), "a part is written"
    before = manifest(database)
    block(database, "meanwhile.test")
    publish_abandoned(database, older_s=-1)
    assert manifest(database) == before
    word = policy_items.create(database, BADWORDS, BADWORDS.draft(pattern="casino"), WHO)  # type: ignore[call-arg]
    assert [one.id for one in published(database)[SectionKind.BADWORDS]] == [word["id"]]  # type: ignore[union-attr]
    revision = manifest(database).revision
    steps.carry_out()
    assert told(database) == {"before.test": "", "meanwhile.test": "", **NEW}
    assert manifest(database).revision == revision + 1
    block(database, "after.test")
    assert "after.test" in told(database)


def test_what_publishes_at_once_waits_for_the_import(database: Database) -> None:
    """A half of the import would go along; nothing of either is changed."""
    steps = committed(database, NEW)
    with pytest.raises(Conflict, match="A file is being imported"), database.write() as session:
        publish_within(session, touch(session, SectionKind.LIST, [1]))
    assert told(database) == {}
    with database.write() as session:
        publish_within(session, touch(session, SectionKind.RATES, [1]))
    steps.carry_out()
    with database.write() as session:
        publish_within(session, touch(session, SectionKind.LIST, [1]))
    assert told(database) == NEW


def test_an_edit_while_the_sections_are_packed_is_published_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the snapshot, and nobody else publishes it."""
    steps = committed(database, NEW)
    together = policy_import_steps.publish_together

    def edit_first(*args: object) -> None:
        held = args[2]

        def finish(session: Session) -> None:
            held(session)  # type: ignore[operator]

        block(database, "early.test")
        together(args[0], args[1], finish, lambda: block(database, "late.test"))  # type: ignore[arg-type]

    monkeypatch.setattr(policy_import_steps, "publish_together", edit_first)
    steps.carry_out()
    assert set(told(database)) == {*NEW, "early.test", "late.test"}


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        (BLOCKLIST, BLOCKLIST, True),
        (BLOCKLIST, ALLOWLIST, True),
        (CATEGORIES, SUBSCRIPTIONS, True),
        (BLOCKLIST, BADWORDS, False),
    ],
)
def test_one_file_at_a_time_changes_the_same_sections(
    database: Database, first: Kind, second: Kind, *, is_refused: bool
) -> None:
    """Who comes second hears it, and changes nothing."""
    steps = begin(database, first, "import:olga")
    if is_refused:
        with pytest.raises(Conflict, match="Another file is being imported"):
            begin(database, second, "import:paul")
    else:
        begin(database, second, "import:paul").give_up()
    steps.give_up()
    begin(database, second, "import:paul").give_up()
    assert kept_rows(database) == 0


def test_who_was_given_up_does_not_commit(database: Database) -> None:
    """It stood still for so long that the job cleaned up behind it."""
    steps = begin(database, BLOCKLIST, "import:olga")
    steps.keep(put=[{"value": "a.test", "reason": "", "expires_at": None, "listing": "block"}])
    assert resume(database) == 0, "it was just heard of"
    assert resume(database, older_s=-1) == 1
    with pytest.raises(Conflict, match="nothing was changed"):
        steps.commit(WHO, Changes(added=1))
    resume(database, older_s=-1)
    assert (listed(database), told(database)) == ({}, {})
    with database.read() as session:
        assert list_entries(session, AuditFilter(action="blocklist.import")) == []


def test_a_committed_import_cannot_be_given_up(database: Database) -> None:
    """What was acknowledged is carried out, by whoever is left."""
    steps = committed(database, NEW)
    steps.give_up()
    assert resume(database, older_s=-1) == 1
    assert told(database) == NEW
    assert kept_rows(database) == 0


@pytest.mark.usefixtures("small_parts")
def test_two_that_carry_out_the_same_do_it_once(database: Database) -> None:
    """One was thought dead, and is not."""
    steps = committed(database, NEW)
    threads = [threading.Thread(target=steps.carry_out)]
    threads += [threading.Thread(target=resume, args=(database, -1.0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(database) == listed(database) == NEW
    with database.read() as session:
        ids = session.exec(select(ListEntryRow.id)).all()
    assert sorted(ids) == list(range(1, len(NEW) + 1))
    assert kept_rows(database) == 0


def test_subscribers_of_a_category_that_went_meanwhile_are_left_out(database: Database) -> None:
    """It was there when the file was read."""
    kept, gone = (
        policy_items.create(database, CATEGORIES, CategoryDraft(address=address), WHO)["id"]
        for address in ("news@example.com", "old@example.com")
    )
    steps = begin(database, SUBSCRIPTIONS, "import:olga")
    draft = SubscriptionDraft(address="reader@example.net")
    steps.keep(put=[{**SUBSCRIPTIONS.to_values(draft), "category": one} for one in (kept, gone)])
    steps.commit(WHO, Changes(added=2))
    policy_items.remove(database, CATEGORIES, gone, WHO)
    steps.carry_out()
    (subscription,) = published(database)[SectionKind.SUBSCRIPTIONS]
    assert subscription.category == kept  # type: ignore[union-attr]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", "x"]), max_size=6),
    lines=st.lists(
        st.tuples(st.sampled_from("abcdefgh!"), st.sampled_from(["", "x", "y"])), max_size=9
    ),
    replace=st.booleans(),
)
def test_a_preview_tells_what_the_import_then_does(
    database: Database, before: dict[str, str], lines: list[tuple[str, str]], *, replace: bool
) -> None:
    """Of any list and any file; it changes nothing itself."""
    set_list(database, {f"{name}.test": reason for name, reason in before.items()})
    text = "value,reason\n" + "".join(f"{name}.test,{reason}\n" for name, reason in lines)
    file = io.BytesIO(text.encode())
    state = (listed(database), manifest(database))
    preview = preview_file(database, BLOCKLIST, file, FileKind.CSV, replace=replace)
    assert (listed(database), manifest(database)) == state
    assert preview.invalid == sum(name == "!" for name, _ in lines) == len(preview.problems)
    file.seek(0)
    if preview.invalid:
        with pytest.raises(Invalid, match=f"{preview.invalid} of {len(lines)} entr"):
            import_file(database, BLOCKLIST, file, FileKind.CSV, WHO, replace=replace)
        assert (listed(database), manifest(database)) == state
        return
    done = import_file(database, BLOCKLIST, file, FileKind.CSV, WHO, replace=replace)
    assert done.counts == preview.changes.counts
    wanted = {f"{name}.test": reason for name, reason in lines}
    assert listed(database) == told(database) == (wanted if replace else state[0] | wanted)


def test_a_part_of_a_long_list_is_compared_with_what_lies_between(database: Database) -> None:
    """Few entries of a file may have very many of the list between them."""
    lines = [f"d{number:04}.test" for number in range(1000)]
    import_file(database, BLOCKLIST, csv(lines), FileKind.CSV, WHO, replace=False)
    policy_items.create(database, ALLOWLIST, ListDraft(value=lines[500]), WHO)
    for step, new in ((1, 0), (7, 1), (2, 3)):
        named = [*lines[::step], *(f"new{number}.test" for number in range(new))]
        would = preview_file(database, BLOCKLIST, csv(named), FileKind.CSV, replace=True)
        counts = would.changes.counts
        assert (counts["added"], counts["unchanged"]) == (new, len(lines[::step]))
        assert counts["removed"] == 1000 - len(lines[::step])
    assert values(database)[:1000] == lines


def test_a_replacing_import_deletes_nothing_that_it_has_not_read(database: Database) -> None:
    """Two arrays in one file: the entries of the second one stay on the list."""
    set_list(database, {"a.test": "", "b.test": ""})
    for rest in (b'\n[{"value": "b.test"}]', b"garbage"):
        file = io.BytesIO(b'[{"value": "a.test"}]' + rest)
        shown = preview_file(database, BLOCKLIST, file, FileKind.JSON, replace=True)
        assert list(shown.problems) == ["entry 2"]
        file.seek(0)
        with pytest.raises(Invalid, match="1 of 2 entry cannot be used") as caught:
            import_file(database, BLOCKLIST, file, FileKind.JSON, WHO, replace=True)
        assert "goes on" in caught.value.fields["entry 2"]
    assert listed(database) == told(database) == {"a.test": "", "b.test": ""}
