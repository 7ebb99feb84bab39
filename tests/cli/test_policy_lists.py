"""`relayctl policy` over HTTPS: on and off, block and allow, words, categories, subscriptions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Operator


def values(operator: Operator, *words: str, field: str = "value") -> list[str]:
    """Return what a list command lists."""
    return [one[field] for one in operator.json("policy", *words)]


def test_the_policy_is_switched_on_and_off(paired: Operator) -> None:
    """A sentence for people, the settings for programs."""
    assert paired("policy", "on").out == "The policy is on.\n"
    assert paired.json("policy", "off")["is_active"] is False


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("Spam.Example.COM", "spam.example.com"),
        ("*.Example.com", "*.example.com"),
        ("Bad@Example.com", "bad@example.com"),
        ("*@bücher.example", "*@xn--bcher-kva.example"),
    ],
)
def test_an_entry_is_blocked_and_unblocked_as_it_was_typed(
    paired: Operator, typed: str, stored: str
) -> None:
    """Whatever the spelling: it is stored in one form."""
    blocked = paired("policy", "block", typed, "--reason", "test")
    assert blocked.out == f"{stored} is on the blocklist.\n"
    assert values(paired, "blocklist") == [stored]
    assert stored in paired("policy", "blocklist").out
    assert paired("policy", "unblock", typed).code == 0
    assert values(paired, "blocklist") == []
    again = paired("policy", "unblock", typed)
    assert again.code == 1
    assert f"{stored} is not among the blocklist." in again.err


def test_an_entry_can_expire(paired: Operator) -> None:
    """After a length of time, at a time, or on a day in UTC."""
    paired("policy", "block", "a.test", "--expires", "2h")
    paired("policy", "block", "b.test", "--expires", "2099-01-31")
    paired("policy", "block", "c.test", "--expires", "2099-01-31T12:00+02:00")
    listed = {one["value"]: one["expires_at"] for one in paired.json("policy", "blocklist")}
    left = datetime.fromisoformat(listed["a.test"]) - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    assert datetime.fromisoformat(listed["b.test"]) == datetime(2099, 1, 31, tzinfo=UTC)
    assert datetime.fromisoformat(listed["c.test"]) == datetime(2099, 1, 31, 10, tzinfo=UTC)
    refused = paired("policy", "block", "d.test", "--expires", "soon")
    assert (refused.code, "is no time" in refused.err) == (2, True)


def test_the_allowlist_is_another_list(paired: Operator) -> None:
    """With the same commands."""
    paired("policy", "allow", "friend@a.test", "--reason", "a friend")
    assert values(paired, "allowlist") == ["friend@a.test"]
    assert values(paired, "blocklist") == []
    assert paired("policy", "disallow", "FRIEND@a.test").code == 0
    assert paired("policy", "allowlist").out == "The allowlist is empty.\n"


def test_what_cannot_be_an_entry_is_refused(paired: Operator) -> None:
    """In one sentence, by the control plane or before."""
    for word in ("block", "unblock", "allow", "disallow"):
        refused = paired("policy", word, "not an entry@")
        assert refused.code in {1, 2}
        assert "@" in refused.err


def test_bad_words_are_added_changed_and_removed(paired: Operator) -> None:
    """A pattern that RE2 does not take is refused with its reason."""
    added = ("policy", "badword", "add", "buy now")
    assert paired(*added, "--severity", "high", "--category", "spam").code == 0
    assert paired("policy", "badword", "add", "(a+)+b", "--regex").code == 0
    words = {one["pattern"]: one for one in paired.json("policy", "badword", "list")}
    assert (words["buy now"]["severity"], words["(a+)+b"]["is_regex"]) == ("high", True)
    refused = paired("policy", "badword", "add", r"(a)\1", "--regex")
    assert refused.code == 1
    assert paired("policy", "badword", "remove", "buy now").code == 0
    assert values(paired, "badword", "list", field="pattern") == ["(a+)+b"]
    assert paired("policy", "badword", "remove", "buy now").code == 1


def test_categories_and_their_subscribers(paired: Operator) -> None:
    """By address, as everybody writes them."""
    made = ("policy", "category", "add", "News@Example.com")
    added = paired(*made, "--name", "News", "--posting", "allowed", "--sender", "ed@a.test")
    assert added.out == "Stored news@example.com.\n"
    (category,) = paired.json("policy", "category", "list")
    assert (category["posting"], category["allowed_senders"]) == ("allowed", ["ed@a.test"])
    for _ in range(2):
        done = paired("policy", "subscription", "add", "news@example.com", "Ann@a.test")
        assert done.out == "ann@a.test is subscribed to news@example.com.\n"
    assert values(paired, "subscription", "list", field="address") == ["ann@a.test"]
    of_news = ("subscription", "list", "--category", "news@example.com")
    assert values(paired, *of_news, field="category") == ["news@example.com"]
    removed = ("policy", "subscription", "remove", "news@example.com", "ann@a.test")
    assert [paired(*removed).code, paired(*removed).code] == [0, 1]
    assert paired("policy", "subscription", "add", "other@example.com", "a@b.test").code == 1
    assert paired("policy", "category", "remove", "NEWS@example.com").code == 0
    assert paired.json("policy", "category", "list") == []


def test_subscriptions_come_in_from_files(paired: Operator, tmp_path: Path) -> None:
    """One address a line for one category, or CSV for all; all of a file or nothing."""
    paired("policy", "category", "add", "news@example.com")
    plain, full = tmp_path / "plain.txt", tmp_path / "full.csv"
    plain.write_text("ann@a.test\n# nobody\n\nbob@a.test # a friend\n")
    done = paired("policy", "subscription", "import", str(plain), "--category", "news@example.com")
    assert done.out.startswith("subscriptions: 2 added")
    full.write_text("category,address\nnews@example.com,cleo@a.test\n")
    answer = paired.json("policy", "subscription", "import", str(full), "--replace")
    assert (answer["added"], answer["removed"]) == (1, 2)
    full.write_text("category,address\nnews@example.com,dan@a.test\nnews@example.com,nonsense\n")
    refused = paired("policy", "subscription", "import", str(full))
    assert refused.code == 1
    assert values(paired, "subscription", "list", field="address") == ["cleo@a.test"]
    both = ("--category", "news@example.com", "--replace")
    assert paired("policy", "subscription", "import", str(plain), *both).code == 2


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_list_goes_out_and_comes_in_again(
    paired: Operator, tmp_path: Path, file_format: str
) -> None:
    """As it was; the import knows the format by itself."""
    for name in ("*@b.test", "a.test"):
        paired("policy", "block", name, "--reason", 'why, "so"')
    before = paired.json("policy", "blocklist")
    file = tmp_path / "list"
    out = ("policy", "export", "blocklist", str(file), "--format", file_format)
    assert paired(*out).code == 0
    for name in ("a.test", "*@b.test"):
        paired("policy", "unblock", name)
    counts = paired.json("policy", "import", "blocklist", str(file))
    assert counts["added"] == 2
    after = paired.json("policy", "blocklist")
    wanted = {(one["value"], one["reason"]) for one in before}
    assert {(one["value"], one["reason"]) for one in after} == wanted
    assert paired(*out[:3], "--format", file_format).out == file.read_bytes().decode()


def test_a_file_that_cannot_be_used_changes_nothing(paired: Operator, tmp_path: Path) -> None:
    """A sentence a line."""
    file = tmp_path / "list"
    for text in ("value\nnot an entry@\n", json.dumps([{"value": 7}]), "[", "nonsense"):
        file.write_text(text)
        refused = paired("policy", "import", "blocklist", str(file))
        assert refused.code == 1, text
    assert paired("policy", "import", "blocklist", str(tmp_path / "none")).code == 2
    assert paired.json("policy", "blocklist") == []


def test_an_import_is_looked_at_first(paired: Operator, tmp_path: Path) -> None:
    """What would change, and what is wrong with the file; nothing is."""
    for name in ("same.test", "differs.test", "gone.test"):
        paired("policy", "block", name)
    file = tmp_path / "list.csv"
    file.write_text("value,reason\nsame.test,\ndiffers.test,why\nnew.test,\nno value,\n")
    look = ("policy", "import", "blocklist", str(file), "--replace", "--dry-run")
    shown = paired.json(*look)
    counted = [shown[one] for one in ("added", "changed", "unchanged", "removed", "invalid")]
    assert counted == [1, 1, 1, 1, 1]
    assert list(shown["problems"]) == ["line 5"]
    told = paired(*look)
    assert told.out.splitlines()[1].startswith("line 5: ")
    assert (told.code, "Nothing was changed." in told.err) == (0, True)
    assert sorted(values(paired, "blocklist")) == ["differs.test", "gone.test", "same.test"]


def test_a_file_with_a_byte_order_mark_is_known_by_what_follows(
    paired: Operator, tmp_path: Path
) -> None:
    """As spreadsheets and other systems write them."""
    file = tmp_path / "list"
    file.write_bytes(b'\xef\xbb\xbf [{"value": "a.test"}]')
    assert paired.json("policy", "import", "blocklist", str(file))["added"] == 1
    file.write_bytes(b"\xef\xbb\xbfvalue\r\nb.test\r\n")
    assert paired.json("policy", "import", "blocklist", str(file))["added"] == 1


def test_json_lines_are_known_by_their_first_brace(paired: Operator, tmp_path: Path) -> None:
    """One object a line, as programs write them; one that does not end is refused as JSON."""
    file = tmp_path / "list"
    file.write_bytes(b'\xef\xbb\xbf\n{"value": "a.test", "reason": "why"}\n{"value": "b.test"}\n')
    assert paired.json("policy", "import", "blocklist", str(file))["added"] == 2
    assert sorted(values(paired, "blocklist")) == ["a.test", "b.test"]
    file.write_text('{"value": "c.test"}\n{"value": ')
    refused = paired("policy", "import", "blocklist", str(file))
    assert (refused.code, "no JSON object" in refused.err) == (1, True)
    assert sorted(values(paired, "blocklist")) == ["a.test", "b.test"]
