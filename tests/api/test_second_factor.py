"""The second factor over the API: set up, log in in two steps, lose it, remove it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from controlplane.store.user_sessions import LoginRules
from tests.api.conftest import PASSWORD
from tests.fakes.people import (
    audited,
    bearer,
    code_of,
    give_second_factor,
    let_codes_be_used_again,
)

SESSION = "/api/v1/session"
FACTOR = "/api/v1/profile/second-factor"
PROOF = {"current_password": PASSWORD}


def log_in(client: TestClient, **extra: str) -> Any:
    """Try a login without keeping its cookie."""
    answer = client.post(SESSION, json={"user": "admin", "password": PASSWORD, **extra})
    client.cookies.clear()
    return answer


@pytest.fixture
def secret(client: TestClient, sqlite_database: Database, rules: LoginRules) -> str:
    """Give the client's user a second factor; return its secret."""
    keep_id = client.get(SESSION).json()["id"]
    return give_second_factor(sqlite_database, "admin", rules, keep_id=keep_id)[0]


def test_it_is_set_up_with_an_app_and_a_first_code(client: TestClient) -> None:
    """Secret and URI say the same; recovery codes come with the confirmation."""
    begun = client.post(FACTOR, json=PROOF)
    assert begun.status_code == 201
    uri = urlsplit(begun.json()["otpauth_uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert parse_qs(uri.query)["secret"] == [begun.json()["secret"]]
    assert log_in(client).status_code == 201
    confirmed = client.post(f"{FACTOR}/confirm", json={"code": code_of(begun.json()["secret"])})
    assert len(confirmed.json()["recovery_codes"]) == 10
    assert log_in(client).status_code == 401
    profile = client.get("/api/v1/profile").json()
    assert (profile["has_second_factor"], profile["recovery_codes_left"]) == (True, 10)


def test_the_login_takes_two_steps(client: TestClient, secret: str) -> None:
    """The first answer says what is missing in a word for programs; then the same with `code`."""
    first = log_in(client)
    assert (first.status_code, first.json()["reason"]) == (401, "code-required")
    assert "set-cookie" not in first.headers
    wrong = log_in(client, code="000000")
    assert (wrong.status_code, wrong.json()["reason"]) == (401, "code-wrong")
    opened = log_in(client, code=code_of(secret))
    assert opened.status_code == 201
    assert client.get(SESSION, headers=bearer(opened.json()["token"])).status_code == 200


def test_a_wrong_password_has_no_reason_of_the_second_factor(
    client: TestClient, secret: str
) -> None:
    """It does not tell that the user has one."""
    answer = log_in(client, password="wrong", code=code_of(secret))
    assert answer.status_code == 401
    assert "reason" not in answer.json()


def test_a_used_code_is_refused(client: TestClient, secret: str) -> None:
    """The sentence says what to do."""
    code = code_of(secret)
    assert log_in(client, code=code).status_code == 201
    assert "wait for the next one" in log_in(client, code=code).json()["detail"]


def test_guesses_at_the_code_wait(client: TestClient, secret: str) -> None:
    """After five, even the right one; 429 as for passwords."""
    for _ in range(5):
        assert log_in(client, code="000000").status_code == 401
    assert log_in(client, code=code_of(secret)).status_code == 429


def test_a_stolen_session_sets_up_no_factor(client: TestClient) -> None:
    """The owner would be locked out."""
    answer = client.post(FACTOR, json={"current_password": "guess"})
    assert (answer.status_code, set(answer.json()["fields"])) == (422, {"current_password"})
    assert client.post(f"{FACTOR}/confirm", json={"code": "123456"}).status_code == 404


@pytest.mark.parametrize("what", ["remove", "recovery-codes"])
def test_removing_and_renewing_need_password_and_code(
    client: TestClient, secret: str, sqlite_database: Database, what: str
) -> None:
    """Neither alone will do; a recovery code stands in for a lost app."""
    path = f"{FACTOR}/{what}"
    assert client.post(path, json=PROOF).status_code == 422
    wrong = client.post(path, json={**PROOF, "code": "000000"})
    assert (wrong.status_code, set(wrong.json()["fields"])) == (422, {"code"})
    guess = {"current_password": "guess", "code": code_of(secret)}
    assert client.post(path, json=guess).status_code == 422
    assert client.get("/api/v1/profile").json()["has_second_factor"] is True
    let_codes_be_used_again(sqlite_database, "admin")
    done = client.post(path, json={**PROOF, "code": code_of(secret)})
    assert done.status_code in {200, 204}
    is_left = client.get("/api/v1/profile").json()["has_second_factor"]
    assert is_left is (what == "recovery-codes")


def test_a_recovery_code_removes_a_lost_app(
    client: TestClient, sqlite_database: Database, rules: LoginRules
) -> None:
    """And then the password alone logs in."""
    _, codes = give_second_factor(sqlite_database, "admin", rules)
    opened = log_in(client, code=codes[0])
    headers = bearer(opened.json()["token"])
    gone = client.post(f"{FACTOR}/remove", json={**PROOF, "code": codes[1]}, headers=headers)
    assert gone.status_code == 204
    assert log_in(client).status_code == 201


def test_a_second_one_is_refused(client: TestClient, secret: str) -> None:
    """409: remove the first."""
    assert secret
    assert client.post(FACTOR, json=PROOF).status_code == 409


def test_the_password_can_be_changed_without_a_code(client: TestClient, secret: str) -> None:
    """The session had one already; the factor stays."""
    change = {**PROOF, "new_password": "other-Relays-43"}
    assert client.put(f"{SESSION}/password", json=change).status_code == 200
    client.cookies.clear()
    answer = log_in(client, password="other-Relays-43", code=code_of(secret))
    assert answer.status_code == 201


def test_everything_about_it_is_audited(client: TestClient, sqlite_database: Database) -> None:
    """Begun, confirmed, renewed, removed; no row holds a secret."""
    secret = client.post(FACTOR, json=PROOF).json()["secret"]
    codes = client.post(f"{FACTOR}/confirm", json={"code": code_of(secret)}).json()
    proof = {**PROOF, "code": codes["recovery_codes"][0]}
    fresh = client.post(f"{FACTOR}/recovery-codes", json=proof).json()["recovery_codes"]
    client.post(f"{FACTOR}/remove", json={**PROOF, "code": fresh[0]})
    actions = [action for _, action, _ in audited(sqlite_database)]
    assert [one for one in actions if one.startswith("second-factor.")] == [
        "second-factor.enrol",
        "second-factor.confirm",
        "second-factor.recovery-code-used",
        "second-factor.recovery-codes",
        "second-factor.recovery-code-used",
        "second-factor.remove",
    ]
    log = client.get("/api/v1/audit").text
    assert not [one for one in (secret, *codes["recovery_codes"], *fresh) if one in log]
