"""Categories and the stage DATA, on both databases: no door leaves it out while there is one."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from controlplane.core.policy_checks import NEEDS_DATA, NO_DATA
from controlplane.core.policy_drafts import CategoryDraft, ListDraft, SubscriptionDraft
from controlplane.errors import Conflict, Invalid
from controlplane.store import policy_items
from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.policy_import_steps import begin, resume
from controlplane.store.policy_imports import FileKind, import_file
from controlplane.store.policy_items import Changes
from controlplane.store.policy_kinds import BLOCKLIST, CATEGORIES, SUBSCRIPTIONS
from controlplane.store.policy_settings import (
    Credential,
    change_settings,
    ensure_policy,
    issue_credential,
    read_policy_settings,
)
from controlplane.store.state_files import (
    StateFile,
    StateImport,
    export_state,
    import_state,
    plan_state,
)
from nodeagent.policy.model import Stage
from tests.contract.test_policy_store import WHO

NEWS = CategoryDraft(address="news@lists.example.com")
OLD = CategoryDraft(address="old@lists.example.com")
BEFORE_DATA = ["connect", "ehlo", "mail", "rcpt"]
CSV = b"address,name\nnews@lists.example.com,News\n"
WITHOUT: dict[str, dict[str, Any]] = {
    "stages": {"stages": BEFORE_DATA},
    "http.stages": {"http": {"is_enabled": True, "stages": ["rcpt"]}},
}
"""The settings with which a door leaves it out, by the field."""
ADDING: dict[str, Callable[[Database], object]] = {
    "put": lambda database: policy_items.put(database, CATEGORIES, NEWS, WHO),
    "create": lambda database: policy_items.create(database, CATEGORIES, NEWS, WHO),
    "put_all": lambda database: policy_items.put_all(database, CATEGORIES, [NEWS, OLD], WHO),
    "file": lambda database: import_file(
        database, CATEGORIES, io.BytesIO(CSV), FileKind.CSV, WHO, replace=True
    ),
}


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give a cluster whose HTTP door has a credential."""
    made = ClusterStore(database, SecretBox(Fernet.generate_key()))
    ensure_policy(database, made.box)
    issue_credential(database, Credential.BEARER, None, WHO)
    return made


def add_news(database: Database) -> int:
    """Add a category; return its number."""
    return int(policy_items.create(database, CATEGORIES, NEWS, WHO)["id"])


def state(database: Database) -> tuple[object, ...]:
    """Return the settings, how many categories and imports there are, and the audit's length."""
    with database.read() as session:
        return (
            read_policy_settings(session),
            policy_items.count(session, CATEGORIES),
            len(list_entries(session, AuditFilter())),
        )


@pytest.mark.parametrize("field", WITHOUT)
def test_the_stage_is_not_left_out_while_there_is_a_category(
    store: ClusterStore, field: str
) -> None:
    """It says so beside the field, and nothing is changed; without categories anybody may."""
    database = store.database
    number = add_news(database)
    before = state(database)
    with pytest.raises(Invalid, match="Nothing was changed: Mail to categories") as refused:
        change_settings(database, WITHOUT[field] | {"low": "reject"}, WHO)
    assert refused.value.fields == {field: NEEDS_DATA}
    assert state(database) == before
    policy_items.remove(database, CATEGORIES, number, WHO)
    after = change_settings(database, WITHOUT[field] | {"low": "reject"}, WHO)
    assert Stage.DATA not in (after.stages if field == "stages" else after.http.stages)


def test_both_doors_are_named_and_the_sentence_is_said_once(store: ClusterStore) -> None:
    """Each of them would take mail for nobody."""
    add_news(store.database)
    with pytest.raises(Invalid) as refused:
        change_settings(store.database, WITHOUT["stages"] | WITHOUT["http.stages"], WHO)
    assert set(refused.value.fields) == {"stages", "http.stages"}
    assert refused.value.detail == f"Nothing was changed: {NEEDS_DATA}"


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": ["data"]},
        {"stages": ["data", "connect"], "http": {"is_enabled": True, "stages": ["data"]}},
        {"http": {"is_enabled": False, "stages": []}},
        {"is_active": True},
        {},
    ],
)
def test_other_stages_may_be_left_out(store: ClusterStore, changes: dict[str, Any]) -> None:
    """All rules are asked again at DATA, and a door that is closed takes no mail."""
    add_news(store.database)
    change_settings(store.database, changes, WHO)


def test_the_door_is_not_opened_without_the_stage(store: ClusterStore) -> None:
    """It was left out while the door was closed."""
    add_news(store.database)
    change_settings(store.database, {"http": {"stages": ["mail"]}}, WHO)
    with pytest.raises(Invalid) as refused:
        change_settings(store.database, {"http": {"is_enabled": True}}, WHO)
    assert refused.value.fields == {"http.stages": NEEDS_DATA}
    change_settings(store.database, {"http": {"is_enabled": True, "stages": ["data"]}}, WHO)


@pytest.mark.parametrize("how", ADDING)
@pytest.mark.parametrize("field", WITHOUT)
def test_no_category_is_added_while_the_stage_is_left_out(
    store: ClusterStore, field: str, how: str
) -> None:
    """By no way; and with the stage by each."""
    database = store.database
    change_settings(database, WITHOUT[field], WHO)
    before = state(database)
    with pytest.raises(Conflict) as refused:
        ADDING[how](database)
    assert refused.value.detail == NO_DATA
    assert state(database) == before
    change_settings(database, {"stages": ["data"], "http": {"is_enabled": False}}, WHO)
    ADDING[how](database)
    with database.read() as session:
        assert policy_items.count(session, CATEGORIES) > 0


def test_other_lists_do_not_need_the_stage(store: ClusterStore) -> None:
    """Block- and allowlists are asked at each stage."""
    change_settings(store.database, WITHOUT["stages"], WHO)
    policy_items.create(store.database, BLOCKLIST, ListDraft(value="spam.example"), WHO)
    lines = io.BytesIO(b"value\nmore.example\n")
    import_file(store.database, BLOCKLIST, lines, FileKind.CSV, WHO, replace=False)


def test_who_is_subscribed_may_change_at_any_time(store: ClusterStore) -> None:
    """The category is there, so the stage is."""
    of_news = SUBSCRIPTIONS.within(category=add_news(store.database))
    policy_items.create(store.database, of_news, SubscriptionDraft(address="a@b.example"), WHO)


def test_an_import_that_was_decided_keeps_the_stage(store: ClusterStore) -> None:
    """Between its commit and its end nobody leaves it out, and it is carried out by anybody."""
    steps = begin(store.database, CATEGORIES, "import:olga")
    steps.keep(put=[CATEGORIES.to_values(NEWS)])
    change_settings(store.database, {"stages": ["data"]}, WHO)
    steps.commit(WHO, Changes(added=1))
    with pytest.raises(Invalid, match="Mail to categories"):
        change_settings(store.database, WITHOUT["stages"], WHO)
    assert resume(store.database, older_s=-1) == 1
    assert state(store.database)[1] == 1


def test_an_import_is_not_committed_once_the_stage_is_left_out(store: ClusterStore) -> None:
    """The settings came first; nothing is left of it."""
    steps = begin(store.database, CATEGORIES, "import:olga")
    steps.keep(put=[CATEGORIES.to_values(NEWS)])
    change_settings(store.database, WITHOUT["stages"], WHO)
    with pytest.raises(Conflict, match="a stage that the settings leave out"):
        steps.commit(WHO, Changes(added=1))
    steps.give_up()
    assert resume(store.database, older_s=-1) == 0
    assert state(store.database)[1] == 0


def planned(store: ClusterStore, **policy: Any) -> StateImport:
    """Return what the state file with this policy, and no other part of it, would change."""
    content = export_state(store).model_dump(mode="json")
    settings = content["policy"]["settings"]
    content["policy"] = {
        name: settings | values if name == "settings" else values for name, values in policy.items()
    }
    return plan_state(store, StateFile.model_validate(content))


@pytest.mark.parametrize(
    ("has_category", "leaves_out", "policy", "problems"),
    [
        (True, False, {"settings": {"stages": []}}, {"policy.settings.stages": NEEDS_DATA}),
        (True, False, {"settings": {"stages": []}, "categories": []}, {}),
        (True, False, {"settings": {"stages": ["data"]}}, {}),
        (True, False, {"blocklist": []}, {}),
        (False, False, {"settings": {"stages": ["mail"]}}, {}),
        (
            False,
            False,
            {"settings": {"stages": []}, "categories": [{"address": "a@b.example"}]},
            {"policy.settings.stages": NEEDS_DATA},
        ),
        (
            False,
            False,
            {
                "settings": {"http": {"is_enabled": True, "stages": []}},
                "categories": [{"address": "a@b.example"}],
            },
            {"policy.settings.http.stages": NEEDS_DATA},
        ),
        (False, False, {"categories": [{"address": "a@b.example"}]}, {}),
        (
            False,
            True,
            {"categories": [{"address": "a@b.example"}]},
            {"policy.categories": NO_DATA},
        ),
        (False, True, {"categories": []}, {}),
        (
            False,
            True,
            {"settings": {"stages": ["data"]}, "categories": [{"address": "a@b.example"}]},
            {},
        ),
    ],
)
def test_a_state_file_has_both_or_neither(
    store: ClusterStore,
    *,
    has_category: bool,
    leaves_out: bool,
    policy: dict[str, Any],
    problems: dict[str, str],
) -> None:
    """What will be there counts, not what was."""
    if has_category:
        add_news(store.database)
    if leaves_out:
        change_settings(store.database, WITHOUT["stages"], WHO)
    found = planned(store, **policy)
    assert found.problems == problems
    before = state(store.database)
    if problems:
        with pytest.raises(Invalid, match="nothing was changed"):
            import_state(store, found, WHO)
        assert state(store.database) == before
    else:
        import_state(store, found, WHO)
