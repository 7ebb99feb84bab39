"""The pages of the policy's settings and of the threat rules."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.gui.policy_settings_forms import GROUPS, LISTS
from controlplane.store.engine import Database
from controlplane.store.policy_settings import FROM_CLUSTER, MADE_HERE, read_policy_settings
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.threats import THREAT_RULES
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, open_session
from tests.gui.conftest import post

PAGE = "/policy/settings"
RULES = "/policy/threat-rules"
NOT_ON_THE_PAGE = {"is_active"} | FROM_CLUSTER | MADE_HERE
"""What is switched on the first page, and what nobody types."""


@pytest.fixture
def browser(watched: TestClient) -> TestClient:
    """Give a browser of an Admin."""
    del watched.headers["Authorization"]
    return watched


def as_shown(name: str, settings: PolicySettings) -> dict[str, Any]:
    """Return what a browser would send of a group that nobody touched."""
    values = settings.model_dump(mode="json")
    values |= {one: " ".join(values[one]) for one in LISTS}
    return {one: sent for one, sent in GROUPS[name].form.filled(values).values.items() if sent}


def stored(database: Database) -> PolicySettings:
    """Return the settings as they are now."""
    with database.read() as session:
        return read_policy_settings(session)


def test_every_setting_has_a_place() -> None:
    """In one group, or it is named here why not."""
    names = [one.name for group in GROUPS.values() for one in group.form.fields]
    assert len(names) == len(set(names))
    found = {name.partition(".")[0] for name in names}
    assert found == set(PolicySettings.model_fields) - NOT_ON_THE_PAGE


@pytest.mark.parametrize("name", list(GROUPS))
def test_a_group_that_nobody_touched_changes_nothing(
    browser: TestClient, sqlite_database: Database, name: str
) -> None:
    """What the page shows is what it sends."""
    before = stored(sqlite_database)
    answer = post(browser, f"{PAGE}/{name}", **as_shown(name, before))
    assert answer.status_code == 303, answer.text
    assert stored(sqlite_database) == before


@pytest.mark.parametrize(
    ("name", "change", "wanted"),
    [
        ("log", {"privacy": "pseudonymous"}, {"privacy": "pseudonymous"}),
        ("content", {"critical": "discard"}, {"critical": "discard"}),
        ("content", {"blocked_extensions": "exe\n scr"}, {"blocked_extensions": ("exe", "scr")}),
        ("content", {"blocks_encrypted": "on"}, {"blocks_encrypted": True}),
        ("content", {"threat_reject_score": "20"}, {"threat_reject_score": 20.0}),
        ("checks", {"rate_exempt": "192.0.2.0/24"}, {"rate_exempt": ("192.0.2.0/24",)}),
        ("limits", {"stages": ["mail", "data"]}, {"stages": ("mail", "data")}),
        ("limits", {"decision_timeout_s": "5"}, {"decision_timeout_s": 5.0}),
    ],
)
def test_one_setting_is_changed_alone(
    browser: TestClient,
    sqlite_database: Database,
    name: str,
    change: dict[str, Any],
    wanted: dict[str, Any],
) -> None:
    """All others stay."""
    before = stored(sqlite_database)
    assert post(browser, f"{PAGE}/{name}", **(as_shown(name, before) | change)).status_code == 303
    after = stored(sqlite_database)
    assert after == before.model_copy(update=wanted)


def test_a_box_that_is_not_ticked_is_off(browser: TestClient, sqlite_database: Database) -> None:
    """A browser does not send it at all."""
    for group, box in (("checks", "checks.helo_is_valid"), ("content", "blocks_disguised")):
        sent = as_shown(group, stored(sqlite_database))
        sent.pop(box)
        assert post(browser, f"{PAGE}/{group}", **sent).status_code == 303
    after = stored(sqlite_database)
    assert (after.checks.helo_is_valid, after.blocks_disguised) == (False, False)
    assert after.checks.helo_is_not_ours


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("log", {"privacy": "secret"}),
        ("log", {"unsubscribe_url": "http://plain.example/"}),
        ("content", {"medium": "burn"}),
        ("content", {"threat_reject_score": "-1"}),
        ("content", {"threat_reject_score": ""}),
        ("checks", {"checks.most_recipients": "none"}),
        ("checks", {"rate_exempt": "not/a/network"}),
        ("http", {"http.port": "70000"}),
        ("http", {"http.address": "nowhere"}),
        ("http", {"http.is_enabled": "on"}),
        ("limits", {"inspected_bytes": "1"}),
        ("limits", {"stages": ["lunch"]}),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    browser: TestClient, sqlite_database: Database, name: str, change: dict[str, Any]
) -> None:
    """With everything typed kept; a door without a credential is not opened."""
    before = stored(sqlite_database)
    answer = post(browser, f"{PAGE}/{name}", **(as_shown(name, before) | change))
    assert answer.status_code == 422, answer.text
    assert stored(sqlite_database) == before
    assert 'name="privacy"' in answer.text


def test_there_is_no_other_group(browser: TestClient) -> None:
    """Nor is anything saved under its name."""
    assert post(browser, f"{PAGE}/everything", is_active="on").status_code == 404


def test_a_secret_is_shown_once(browser: TestClient, sqlite_database: Database) -> None:
    """Then only that there is one; with it the door can be opened."""
    made = post(browser, f"{PAGE}/http-credentials", kind="bearer", name="").text
    secret = re.findall(r">([A-Za-z0-9_-]{40,})<", made)
    assert len(secret) == 1
    page = browser.get(PAGE).text
    assert secret[0] not in page
    assert stored(sqlite_database).http.token_sha256 is not None
    opened = as_shown("http", stored(sqlite_database)) | {"http.is_enabled": "on"}
    assert post(browser, f"{PAGE}/http", **opened).status_code == 303
    assert stored(sqlite_database).http.is_enabled is True
    assert stored(sqlite_database).http.token_sha256 is not None


def test_a_secret_is_withdrawn_but_the_last_one_of_an_open_door(
    browser: TestClient, sqlite_database: Database
) -> None:
    """What is not there has no button; who would lock everybody out is told so, in German too."""
    credentials = f"{PAGE}/http-credentials"
    for form in ({"kind": "bearer"}, {"kind": "basic", "name": "stalwart"}):
        assert post(browser, credentials, **form).status_code == 200
    page = browser.get(PAGE).text
    assert re.findall(r'action="[^"]+/(\w+)/withdraw"', page) == ["bearer", "basic"]
    opened = as_shown("http", stored(sqlite_database)) | {"http.is_enabled": "on"}
    assert post(browser, f"{PAGE}/http", **opened).status_code == 303
    assert post(browser, f"{credentials}/bearer/withdraw").status_code == 303
    assert stored(sqlite_database).http.token_sha256 is None
    browser.headers["Accept-Language"] = "de"
    refused = post(browser, f"{credentials}/basic/withdraw")
    assert refused.status_code == 409
    assert "schließen Sie erst den Eingang" in html.unescape(refused.text)
    assert stored(sqlite_database).http.password_sha256 is not None
    assert post(browser, f"{credentials}/magic/withdraw").status_code in {404, 422}


@pytest.mark.parametrize(
    "form", [{"kind": "basic"}, {"kind": "basic", "name": "a b"}, {"kind": "magic"}, {}]
)
def test_a_secret_that_cannot_be_made_is_refused(browser: TestClient, form: dict[str, str]) -> None:
    """One sentence."""
    assert post(browser, f"{PAGE}/http-credentials", **form).status_code == 422


def test_every_rule_is_listed_and_one_is_switched(
    browser: TestClient, sqlite_database: Database
) -> None:
    """With what it looks for; reset makes it as it was built."""
    del sqlite_database
    page = browser.get(RULES).text
    assert [rule.name for rule in THREAT_RULES if f">{rule.name}<" not in page] == []
    name = THREAT_RULES[0].name
    assert post(browser, f"{RULES}/{name}", score="7.5").status_code == 303
    shown = browser.get(f"{RULES}/{name}").text
    assert 'value="7.5"' in shown
    assert "checked" not in shown
    assert html.escape(THREAT_RULES[0].description) in shown or (
        THREAT_RULES[0].description in html.unescape(shown)
    )
    assert post(browser, f"{RULES}/{name}/reset").status_code == 303
    assert "checked" in browser.get(f"{RULES}/{name}").text


@pytest.mark.parametrize("score", ["-1", "1001", "many"])
def test_a_score_that_cannot_be_is_refused(browser: TestClient, score: str) -> None:
    """Beside its field."""
    answer = post(browser, f"{RULES}/{THREAT_RULES[0].name}", is_enabled="on", score=score)
    assert answer.status_code == 422
    assert "field-error" in answer.text


def test_there_is_no_other_rule(browser: TestClient) -> None:
    """404, whatever is done with it."""
    assert browser.get(f"{RULES}/no-such-rule").status_code == 404
    assert post(browser, f"{RULES}/no-such-rule", is_enabled="on").status_code == 404
    assert post(browser, f"{RULES}/no-such-rule/reset").status_code == 404


def test_an_operator_sees_and_does_not_change(
    browser: TestClient, sqlite_database: Database
) -> None:
    """Settings are an Admin's."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    browser.cookies.clear()
    browser.cookies.set("relay_session", open_session(sqlite_database, "olga", CHEAP))
    page = browser.get(PAGE).text
    assert "redacted" in page
    assert 'name="privacy"' not in page
    name = THREAT_RULES[0].name
    assert 'name="score"' not in browser.get(f"{RULES}/{name}").text
    credentials = f"{PAGE}/http-credentials"
    for path in (f"{PAGE}/log", credentials, f"{credentials}/bearer/withdraw", f"{RULES}/{name}"):
        assert post(browser, path, kind="bearer").status_code == 403
