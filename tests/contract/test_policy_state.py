"""The mail policy in the state file, on both databases: out and in, all of it or nothing."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from controlplane.core.policy_drafts import BadwordDraft, CategoryDraft, ListDraft, ThreatDraft
from controlplane.errors import Conflict, Invalid
from controlplane.store import policy_items
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.ended_subscriptions import has_ended
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_kinds import (
    ALLOWLIST,
    BADWORDS,
    BLOCKLIST,
    CATEGORIES,
    SUBSCRIPTIONS,
    Kind,
)
from controlplane.store.policy_publication import publish_abandoned, read_body, read_manifest
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_settings import (
    Credential,
    change_settings,
    ensure_policy,
    issue_credential,
    read_policy_settings,
)
from controlplane.store.policy_subscriptions import subscriptions_of
from controlplane.store.policy_tables import PolicyImportRow, PolicySettingsRow, SubscriptionRow
from controlplane.store.policy_threats import change_threat
from controlplane.store.state_files import StateFile, export_state, import_state, plan_state
from nodeagent.policy.document import SectionKind
from nodeagent.policy.engine.sections import read_section
from nodeagent.policy.engine.threats import THREAT_RULES

OLGA = Actor("olga", "198.51.100.40")
NEWS = "news@lists.example.com"
RULE = THREAT_RULES[0].name
LISTS = ("blocklist", "allowlist", "badwords", "rates", "categories", "subscriptions")


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give a cluster with something of everything in its policy."""
    made = ClusterStore(database, SecretBox(Fernet.generate_key()))
    ensure_policy(database, made.box)
    put = policy_items.put
    put(database, BLOCKLIST, ListDraft(value="spam.example", reason="they send spam"), OLGA)
    put(database, ALLOWLIST, ListDraft(value="192.0.2.0/24"), OLGA)
    put(database, BADWORDS, BadwordDraft(pattern="viagra"), OLGA)
    put(database, CATEGORIES, CategoryDraft(address=NEWS, allowed_senders=("boss@a.tld",)), OLGA)
    with database.read() as session:
        of_news = subscriptions_of(session, NEWS)
    put(database, of_news, of_news.draft(address="reader@example.net"), OLGA)
    change_threat(database, RULE, ThreatDraft(is_enabled=False), OLGA)
    change_settings(database, {"low": "reject", "checks": {"most_recipients": 7}}, OLGA)
    return made


def changed(file: StateFile, **policy: Any) -> StateFile:
    """Return a file with another policy, as somebody edits it by hand; None: that part is gone."""
    content = file.model_dump(mode="json")
    content["policy"] |= policy
    return StateFile.model_validate(content)


def bring_in(store: ClusterStore, file: StateFile) -> None:
    """Import a file as it is."""
    import_state(store, plan_state(store, file), OLGA)


def problems_of(store: ClusterStore, **policy: Any) -> dict[str, str]:
    """Return what is wrong with a file; importing it is refused and changes nothing."""
    before = export_state(store).policy
    planned = plan_state(store, changed(export_state(store), **policy))
    if planned.problems:
        with pytest.raises(Invalid, match="nothing was changed"):
            import_state(store, planned, OLGA)
        assert export_state(store).policy == before
    return dict(planned.problems)


def revision(store: ClusterStore) -> int:
    """Return the policy's revision."""
    with store.database.read() as session:
        return read_revision(session)


def published(store: ClusterStore) -> dict[SectionKind, list[str]]:
    """Return what the nodes get, by section, without ids."""
    found: dict[SectionKind, list[str]] = {}
    with store.database.read() as session:
        for section in read_manifest(session, store.box).sections:
            entries = read_section(section, read_body(session, section.sha256))
            shown = (
                entry.model_dump_json(exclude={"id", "token", "category"}) for entry in entries
            )
            found.setdefault(section.kind, []).extend(shown)
    return {kind: sorted(lines) for kind, lines in found.items()}


def rows(session: Session, kind: Kind) -> list[Any]:
    """Return all rows of a list, the newest first."""
    return policy_items.read_page(session, kind, policy_items.Wanted()).rows


names = st.sampled_from(["a", "b", "c", "d", "e"])
senders = st.lists(names.map("{}@s.tld".format), unique=True, max_size=3)
entries = st.builds(
    lambda name, reason, day: {
        "value": f"{name}.tld",
        "reason": reason,
        "expires_at": day and f"2{day:03}-02-03T04:05:06.{day:06}Z",
    },
    names,
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20),
    st.none() | st.integers(27, 199),  # later a float of seconds has no microseconds
)
words = st.builds(
    lambda name, is_regex, on, severity: {
        "pattern": name,
        "is_regex": is_regex,
        "severity": severity,
        "is_enabled": on,
    },
    names,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["low", "critical"]),
)
rates = st.builds(
    lambda subject, window, limit: {"subject": subject, "window": window, "limit": limit},
    st.sampled_from(["client", "login", "recipient-domain"]),
    st.sampled_from(["minute", "day"]),
    st.integers(1, 2**31 - 1),
)
rules = st.builds(
    lambda rule, on, score: {"rule": rule.name, "is_enabled": on, "score": score},
    st.sampled_from(THREAT_RULES[:5]),
    st.booleans(),
    st.none() | st.floats(0, 1000),
)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Give a whole policy, in which no entry is there twice."""
    found = draw(st.lists(names, unique=True))
    categories = [
        {"address": f"{one}@lists.tld", "name": one, "allowed_senders": draw(senders)}
        for one in found
    ]
    pairs = st.tuples(st.sampled_from(found), names) if found else st.nothing()
    subscribed = draw(st.lists(pairs, unique=True))
    listed = st.lists(entries, unique_by=lambda one: one["value"])
    return {
        "settings": {
            "privacy": draw(st.sampled_from(["full", "redacted"])),
            "stages": [*draw(st.lists(st.sampled_from(["mail", "rcpt"]), unique=True)), "data"],
            "threat_quarantine_score": draw(st.floats(0.5, 9.5)),
            "dmarc": {"is_enabled": draw(st.booleans())},
        },
        "threat_rules": draw(st.lists(rules, unique_by=lambda one: one["rule"])),
        "blocklist": draw(listed),
        "allowlist": draw(listed),
        "badwords": draw(st.lists(words, unique_by=lambda one: (one["pattern"], one["is_regex"]))),
        "rates": draw(st.lists(rates, unique_by=lambda one: (one["subject"], one["window"]))),
        "categories": categories,
        "subscriptions": [
            {"category": f"{one}@lists.tld", "address": f"{who}@r.tld"} for one, who in subscribed
        ],
    }


def _content(policy: Any) -> dict[str, Any]:
    """Return a policy's part of a file in an order that does not depend on what was there."""
    content: dict[str, Any] = policy.model_dump(mode="json")
    for name in (*LISTS, "threat_rules"):
        content[name] = sorted(content[name], key=str)
    return content


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=policies())
def test_any_policy_replaces_any_other_and_comes_back(
    store: ClusterStore, wanted: dict[str, Any]
) -> None:
    """Each example meets the policy of the one before; a second import of it changes nothing."""
    file = changed(export_state(store), **wanted)
    bring_in(store, file)
    after = export_state(store)
    assert after.policy is not None
    content = _content(after.policy)
    for name in LISTS:
        assert len(content[name]) == len(wanted[name])
        for one in wanted[name]:
            assert any(one.items() <= found.items() for found in content[name]), one
    at = revision(store)
    again = plan_state(store, after)
    assert again.is_empty
    import_state(store, again, OLGA)
    assert revision(store) == at
    assert publish_abandoned(store.database, older_s=-1) == 0


def test_a_policy_goes_into_an_empty_control_plane(
    store: ClusterStore, sqlite_database: Database, postgres_database: Database
) -> None:
    """From either database into the other; the nodes get the same, in one revision."""
    file = export_state(store)
    wanted = published(store)
    is_other = sqlite_database if store.database is postgres_database else postgres_database
    fresh = ClusterStore(is_other, SecretBox(Fernet.generate_key()))
    ensure_policy(is_other, fresh.box)
    before = revision(fresh)
    bring_in(fresh, StateFile.model_validate_json(file.model_dump_json()))
    assert revision(fresh) == before + 1
    assert published(fresh) == wanted
    assert export_state(fresh).policy == file.policy
    assert set(wanted) == set(SectionKind) - {SectionKind.RATES}


def test_no_secret_is_in_the_file_and_all_stay(store: ClusterStore) -> None:
    """Digests of the door, the key of pseudonyms, the tokens of subscriptions."""
    token = issue_credential(store.database, Credential.BEARER, None, OLGA).secret
    password = issue_credential(store.database, Credential.BASIC, "stalwart", OLGA).secret
    change_settings(store.database, {"http": {"is_enabled": True}}, OLGA)
    file = export_state(store)
    with store.database.read() as session:
        before = read_policy_settings(session).http
        sealed = session.exec(select(PolicySettingsRow.pseudonym_key_sealed)).one()
        link = session.exec(select(SubscriptionRow.token)).one()
    assert sealed is not None
    text = file.model_dump_json()
    digests = [hashlib.sha256(one.encode()).hexdigest() for one in (token, password)]
    for secret in (*digests, token, password, sealed, store.box.open(sealed), link, "sha256"):
        assert secret not in text
    assert file.policy is not None
    bring_in(store, changed(file, badwords=[], settings={"http": {"username": "stalwart"}}))
    bring_in(store, file)
    with store.database.read() as session:
        assert read_policy_settings(session).http == before
        assert session.exec(select(PolicySettingsRow.pseudonym_key_sealed)).one() == sealed
        assert session.exec(select(SubscriptionRow.token)).one() == link


def test_a_password_of_the_door_goes_with_its_name(store: ClusterStore) -> None:
    """As that of a route: for another user it is none; the preview says so."""
    issue_credential(store.database, Credential.BASIC, "stalwart", OLGA)
    planned = plan_state(
        store, changed(export_state(store), settings={"http": {"username": "other"}})
    )
    assert planned.changed_settings["policy.settings.http.has_password"] == (True, False)
    import_state(store, planned, OLGA)
    with store.database.read() as session:
        door = read_policy_settings(session).http
    assert (door.username, door.password_sha256) == ("other", None)
    found = problems_of(store, settings={"http": {"is_enabled": True}})
    assert found == {"policy.settings.http.is_enabled": "The HTTP door needs credentials first."}


def test_a_file_from_before_leaves_the_policy_alone(store: ClusterStore) -> None:
    """It has no policy at all, and is no wish for none."""
    before = export_state(store).policy
    at = revision(store)
    content = export_state(store).model_dump(mode="json")
    del content["policy"]
    planned = plan_state(store, StateFile.model_validate(content))
    assert (planned.is_empty, planned.policy, planned.untouched) == (True, None, ("policy",))
    content["lists"]["trusted_networks"] = ["203.0.113.0/24"]
    bring_in(store, StateFile.model_validate(content))
    assert export_state(store).policy == before
    assert revision(store) == at + 1  # trusted networks are the policy's, too


@pytest.mark.parametrize("part", ["settings", "threat_rules", *LISTS])
def test_what_a_file_does_not_name_stays(store: ClusterStore, part: str) -> None:
    """All other parts are replaced; subscriptions end with their categories all the same."""
    before = _content(export_state(store).policy)
    wanted: dict[str, Any] = {name: [] for name in (*LISTS, "threat_rules")}
    wanted |= {"settings": {}, part: None}
    planned = plan_state(store, changed(export_state(store), **wanted))
    assert planned.untouched == (f"policy.{part}",)
    if part == "subscriptions":
        assert planned.changed_lists["policy.subscriptions"].removed == (
            f"{NEWS} reader@example.net",
        )
    if part == "categories":
        assert planned.problems == {}
    import_state(store, planned, OLGA)
    after = _content(export_state(store).policy)
    others = {"settings", "threat_rules", *LISTS} - {part}
    assert after[part] == ([] if part == "subscriptions" else before[part])
    assert [name for name in others if name != "settings" and after[name]] == []
    assert (after["settings"]["low"] == "reject") == (part == "settings")


def test_who_stays_subscribed_keeps_the_link_and_who_goes_is_remembered(
    store: ClusterStore,
) -> None:
    """The link in a mail of last week works; one of somebody who is gone says that it is done."""
    with store.database.read() as session:
        (old,) = rows(session, SUBSCRIPTIONS)
    two = [{"category": NEWS, "address": f"{who}@example.net"} for who in ("reader", "new")]
    bring_in(store, changed(export_state(store), subscriptions=two))
    with store.database.read() as session:
        new, kept = rows(session, SUBSCRIPTIONS)
    assert (kept, new["origin"]) == (old, "import:olga")
    bring_in(store, changed(export_state(store), subscriptions=two[1:]))
    with store.database.read() as session:
        assert has_ended(session, old["token"])
        assert not has_ended(session, new["token"])


@pytest.mark.parametrize(
    ("part", "items", "field", "sentence"),
    [
        ("blocklist", [{"value": "a b"}], "blocklist entry 1", ""),
        ("blocklist", [{"value": "a.tld"}, {"value": "A.TLD"}], "blocklist entry 2", "already"),
        ("allowlist", [{"reason": "no value"}], "allowlist entry 1", "value"),
        ("allowlist", [{"value": "a.tld", "more": 1}], "allowlist entry 1", "more"),
        ("allowlist", [{"\ud800": 1}], "allowlist entry 1", ""),
        ("badwords", [{"pattern": "x("}] * 2, "badwords entry 2", "already"),
        ("badwords", [{"pattern": "x(", "is_regex": True}], "badwords entry 1", ""),
        ("badwords", [{"pattern": "a.{60}b.{60}c", "is_regex": True}], "badwords entry 1", ""),
        ("rates", [{"subject": "login", "window": "day", "limit": 0}], "rates entry 1", "limit"),
        ("rates", [{"subject": "all", "window": "day", "limit": 1}], "rates entry 1", "subject"),
        ("categories", [{"address": "nobody"}], "categories entry 1", ""),
        (
            "subscriptions",
            [{"category": "none@a.tld", "address": "b@c.tld"}],
            "subscriptions none@a.tld",
            "There is no category",
        ),
        ("threat_rules", [{"rule": "none"}], "threat_rules entry 1", "There is no threat rule"),
        ("threat_rules", [{"rule": RULE}] * 2, "threat_rules entry 2", "already"),
        ("settings", {"threat_quarantine_score": 11}, "settings.threat_quarantine_score", "above"),
        ("settings", {"http": {"address": "home"}}, "settings.http.address", "IP address"),
    ],
)
def test_one_wrong_entry_refuses_the_whole_file(
    store: ClusterStore, part: str, items: Any, field: str, sentence: str
) -> None:
    """Each by a sentence beside its place, that can be sent to anybody."""
    found = problems_of(store, **{part: items})
    assert next(iter(found)) == f"policy.{field}"
    assert len(found) == 1 or part == "categories"  # whose subscriptions have none then
    said = found[f"policy.{field}"]
    assert sentence in said
    assert said.endswith(".")
    said.encode()


def test_of_many_wrong_entries_the_first_are_named(store: ClusterStore) -> None:
    """And how many there are."""
    found = problems_of(store, blocklist=[{"value": ""}] * 50)
    assert found.pop("policy.blocklist") == "50 entries cannot be used."
    assert list(found) == [f"policy.blocklist entry {place}" for place in range(1, 21)]


def test_a_policy_that_was_edited_meanwhile_is_not_replaced(store: ClusterStore) -> None:
    """Nothing of the file is written, not its settings either; also by what its author had seen."""
    content = export_state(store).model_dump(mode="json")
    content["settings"]["name"] = "other"
    content["policy"]["badwords"] = []
    planned = plan_state(store, StateFile.model_validate(content))
    assert planned.policy is not None
    policy_items.put(store.database, BADWORDS, BadwordDraft(pattern="casino"), OLGA)
    before = export_state(store)
    with pytest.raises(Conflict, match="mail policy meanwhile"):
        import_state(store, planned, OLGA)
    fresh = plan_state(store, StateFile.model_validate(content))
    with pytest.raises(Conflict, match="since you looked"):
        import_state(store, fresh, OLGA, expected_edits=planned.policy.edits)
    after = export_state(store)
    assert (after.policy, after.settings) == (before.policy, before.settings)
    import_state(store, fresh, OLGA, fresh.revision, fresh.policy and fresh.policy.edits)
    assert export_state(store).settings.name == "other"


def test_a_list_that_is_being_imported_is_not_replaced(store: ClusterStore) -> None:
    """Half of it would go out to the nodes; other lists may be replaced meanwhile."""
    words = changed(export_state(store), badwords=[{"pattern": "x"}])
    others = changed(export_state(store), allowlist=[])
    with store.database.write(POLICY_LOCK) as session:
        values = {"list": "badword", "sections": "badwords", "origin": "import:paul"}
        session.add(PolicyImportRow(**values, is_committed=True, touched_at=read_clock_s(session)))
    before = export_state(store).policy
    with pytest.raises(Conflict, match="being imported at this moment"):
        bring_in(store, words)
    assert export_state(store).policy == before
    bring_in(store, others)
    assert export_state(store).policy == others.policy


def test_one_of_several_policies_at_once_is_taken(store: ClusterStore) -> None:
    """With an edit of the list among them: whoever comes second is told to look again."""
    plans = [
        plan_state(store, changed(export_state(store), badwords=[{"pattern": f"w{number}"}]))
        for number in range(3)
    ]

    def carry_out(number: int) -> str:
        try:
            if number == len(plans):
                policy_items.put(store.database, BADWORDS, BadwordDraft(pattern="casino"), OLGA)
                return "edited"
            import_state(store, plans[number], OLGA)
        except Conflict as error:
            return error.detail
        return f"word w{number}"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(carry_out, range(4)))
    refused = [one for one in said if one.endswith("look at the preview again.")]
    assert said[3] == "edited"
    assert len(refused) in {2, 3}
    with store.database.read() as session:
        words = {row["pattern"] for row in rows(session, BADWORDS)}
    taken = {one.removeprefix("word ") for one in said if one.startswith("word ")}
    assert words in ({"viagra", "casino"}, taken | {"casino"}, taken)
    assert "casino" in words or len(refused) == 2


def test_an_import_is_one_entry_of_the_audit_log(store: ClusterStore) -> None:
    """It says what changed of settings and lists, and no secret."""
    issue_credential(store.database, Credential.BASIC, "stalwart", OLGA)
    bring_in(store, changed(export_state(store), badwords=[{"pattern": "x"}], settings={}))
    with store.database.read() as session:
        first, *others = list_entries(session, AuditFilter(limit=100))
    assert (first.action, first.actor) == ("cluster.import", "olga")
    assert first.after is not None
    assert first.after["lists"] == {
        "policy.badwords": {
            "counts": {"added": 1, "changed": 0, "removed": 1, "total": 1},
            "names": {"added": ["word x"], "changed": [], "removed": ["word viagra"]},
        }
    }
    assert first.after["settings"]["policy.settings.low"] == "accept"
    assert first.after["settings"]["policy.settings.http.has_password"] is False
    assert "sha256" not in str(first.after)
    assert all(one.action != "cluster.import" for one in others)
