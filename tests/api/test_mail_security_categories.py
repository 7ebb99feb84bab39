"""Categories and subscriptions over REST: by address, in bulk, as files; tokens stay."""

from __future__ import annotations

import csv
import io

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import Scope
from controlplane.store.engine import Database
from nodeagent.policy.document import Category, SectionKind, Subscription
from tests.fakes.people import audited, bearer, make_token
from tests.fakes.published_policy import published

CATEGORIES = "/api/v1/mail-security/categories"
SUBSCRIPTIONS = "/api/v1/mail-security/subscriptions"
NEWS = f"{CATEGORIES}/news@example.com/subscriptions"


@pytest.fixture
def news(client: TestClient) -> TestClient:
    """Give the client of a policy with one category."""
    answer = client.post(CATEGORIES, json={"address": "News@Example.com", "name": "News"})
    assert answer.status_code == 201, answer.text
    return client


def subscribers(client: TestClient, database: Database) -> dict[str, Subscription]:
    """Return the subscriptions that the nodes have, by address."""
    found = published(client, database, SectionKind.SUBSCRIPTIONS)
    return {one.address: one for one in found if isinstance(one, Subscription)}


def test_a_category_reaches_the_nodes_with_its_senders_in_one_form(
    client: TestClient, sqlite_database: Database
) -> None:
    """Twice the same sender is one."""
    senders = ["Editor@EXAMPLE.com", "editor@example.com", "*@Example.org"]
    body = {"address": "news@example.com", "posting": "allowed", "allowed_senders": senders}
    assert client.post(CATEGORIES, json=body).json()["allowed_senders"] == senders_in_form()
    (found,) = published(client, sqlite_database, SectionKind.CATEGORIES)
    assert isinstance(found, Category)
    assert (found.posting, list(found.allowed_senders)) == ("allowed", senders_in_form())


def senders_in_form() -> list[str]:
    """Return what is kept of them."""
    return ["editor@example.com", "*@example.org"]


def test_a_sender_that_is_no_address_is_refused(client: TestClient) -> None:
    """A domain alone says how it is written."""
    body = {"address": "news@example.com", "allowed_senders": ["example.org"]}
    answer = client.post(CATEGORIES, json=body)
    assert answer.json()["fields"] == {
        "allowed_senders": '"example.org" is no address; write "*@example.org" for all of a domain.'
    }


def test_an_address_is_subscribed_once(news: TestClient, sqlite_database: Database) -> None:
    """However often and however written; the token to unsubscribe with stays the same."""
    assert news.put(f"{NEWS}/Reader@Example.net").status_code == 201
    token = subscribers(news, sqlite_database)["reader@example.net"].token
    again = news.put(f"{NEWS}/reader@example.NET")
    assert (again.status_code, again.json()["category"]) == (200, "news@example.com")
    assert "token" not in again.json()
    assert subscribers(news, sqlite_database)["reader@example.net"].token == token
    found = news.get(NEWS).json()
    assert (found["total"], found["items"][0]["address"]) == (1, "reader@example.net")
    assert news.delete(f"{NEWS}/Reader@example.net").status_code == 204
    assert subscribers(news, sqlite_database) == {}
    assert news.delete(f"{NEWS}/reader@example.net").status_code == 404
    assert token not in news.get("/api/v1/audit").text


@pytest.mark.parametrize("address", ["nobody", "*@example.net", "a b@example.net", "a@"])
def test_what_is_no_address_cannot_be_subscribed(news: TestClient, address: str) -> None:
    """By its path as by a body: one sentence, nothing stored."""
    answer = news.put(f"{NEWS}/{address}")
    assert answer.status_code == 422
    assert list(answer.json()["fields"]) == ["subscriber"]
    body = {"category": "news@example.com", "address": address}
    assert news.post(SUBSCRIPTIONS, json=body).status_code == 422
    assert news.get(SUBSCRIPTIONS).json()["total"] == 0


def test_nobody_subscribes_to_what_is_not_there(client: TestClient) -> None:
    """By either way."""
    assert client.put(f"{NEWS}/reader@example.net").status_code == 404
    named = {"category": "news@example.com", "address": "reader@example.net"}
    answer = client.post(SUBSCRIPTIONS, json=named)
    assert answer.status_code == 422
    assert answer.json()["detail"] == 'There is no category "news@example.com".'


def test_a_category_that_goes_takes_its_subscriptions_along(
    news: TestClient, sqlite_database: Database
) -> None:
    """Those of another category stay."""
    other = news.post(CATEGORIES, json={"address": "jobs@example.com"}).json()
    for category in ("news", "jobs"):
        for number in range(3):
            body = {"category": f"{category}@example.com", "address": f"r{number}@example.net"}
            assert news.post(SUBSCRIPTIONS, json=body).status_code == 201
    assert news.delete(f"{CATEGORIES}/1").status_code == 204
    left = subscribers(news, sqlite_database)
    assert {one.category for one in left.values()} == {other["id"]}
    assert news.get(SUBSCRIPTIONS).json()["total"] == 3


def test_a_category_keeps_its_subscribers_under_another_address(
    news: TestClient, sqlite_database: Database
) -> None:
    """They belong to its id."""
    news.put(f"{NEWS}/reader@example.net")
    changed = news.put(f"{CATEGORIES}/1", json={"address": "letter@example.com"})
    assert changed.json()["id"] == 1
    (found,) = news.get(SUBSCRIPTIONS).json()["items"]
    assert found["category"] == "letter@example.com"
    assert len(subscribers(news, sqlite_database)) == 1


def test_subscriptions_go_in_and_out_as_a_file(news: TestClient, sqlite_database: Database) -> None:
    """A line for a category that is not there refuses the file and says which line it is."""
    lines = ["address,category", "a@example.net,news@example.com", "b@example.net,News@example.com"]
    headers = {"Content-Type": "text/csv"}
    done = news.post(f"{SUBSCRIPTIONS}/import", content="\n".join(lines), headers=headers)
    assert done.json()["added"] == 2
    before = subscribers(news, sqlite_database)
    rows = list(csv.DictReader(io.StringIO(news.get(f"{SUBSCRIPTIONS}/export").text)))
    assert rows == [
        {"address": "a@example.net", "category": "news@example.com"},
        {"address": "b@example.net", "category": "news@example.com"},
    ]
    again = news.post(f"{SUBSCRIPTIONS}/import", params={"replace": True}, json=rows)
    assert again.json() == {"added": 0, "changed": 0, "unchanged": 2, "removed": 0}
    assert subscribers(news, sqlite_database) == before
    bad = [*rows, {"address": "c@example.net", "category": "jobs@example.com"}]
    refused = news.post(f"{SUBSCRIPTIONS}/import", json=bad)
    assert refused.json()["fields"] == {"entry 3": 'There is no category "jobs@example.com".'}
    assert len(subscribers(news, sqlite_database)) == 2


def test_many_subscribe_at_once(news: TestClient, sqlite_database: Database) -> None:
    """And leave at once, by address."""
    items = [{"category": "news@example.com", "address": f"r{n}@example.net"} for n in range(40)]
    done = news.post(f"{SUBSCRIPTIONS}/bulk", json={"items": items})
    assert done.json()["added"] == 40
    assert len({one.token for one in subscribers(news, sqlite_database).values()}) == 40
    values = [f"r{n}@example.net" for n in range(39)]
    gone = news.post(f"{SUBSCRIPTIONS}/bulk-delete", json={"values": values})
    assert gone.json()["removed"] == 39
    assert list(subscribers(news, sqlite_database)) == ["r39@example.net"]


def test_categories_go_in_and_out_as_csv(client: TestClient) -> None:
    """Senders stand in one cell."""
    text = 'address,posting,allowed_senders\nnews@example.com,allowed,"a@example.com *@b.test"\n'
    headers = {"Content-Type": "text/csv"}
    assert client.post(f"{CATEGORIES}/import", content=text, headers=headers).json()["added"] == 1
    exported = client.get(f"{CATEGORIES}/export").text
    assert "a@example.com *@b.test" in exported
    again = client.post(f"{CATEGORIES}/import", content=exported, headers=headers)
    assert again.json()["unchanged"] == 1


def test_operators_look_after_subscriptions_and_it_is_audited(
    team: TestClient, sqlite_database: Database
) -> None:
    """Who did it stands in the log and beside the entry."""
    token = make_token(sqlite_database, "olga", Scope.OPERATE)
    team.post(CATEGORIES, json={"address": "news@example.com"}, headers=bearer(token))
    made = team.put(f"{NEWS}/reader@example.net", headers=bearer(token))
    assert made.json()["origin"] == "olga"
    rows = audited(sqlite_database)
    assert ("olga", "category.create", "news@example.com") in rows
    assert ("olga", "subscription.create", "reader@example.net") in rows
