"""`relayctl policy settings` and `secret` over HTTPS; and how NAME=VALUE is read."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.relayctl.errors import Misused
from controlplane.relayctl.setting_pairs import changes_of, flat
from tests.cli.conftest import Operator


def shown(operator: Operator) -> dict[str, Any]:
    """Return the settings by their whole names."""
    return flat(operator.json("policy", "settings", "show")["settings"])


def test_settings_are_changed_together_or_not_at_all(paired: Operator) -> None:
    """Sections by a dot, lists by commas; what is shown can be set."""
    before = shown(paired)
    changes = (
        "spf.is_enabled=true",
        "stages=mail,rcpt data",
        "blocked_extensions=exe",
        "low=accept",
    )
    assert paired("policy", "settings", "set", *changes).code == 0
    wanted = {"spf.is_enabled": True, "stages": ["mail", "rcpt", "data"]}
    after = shown(paired)
    assert after == before | wanted | {"blocked_extensions": ["exe"]}
    refused = paired("policy", "settings", "set", "privacy=full", "http.port=70000")
    assert refused.code == 1
    assert "http.port" in refused.err
    assert shown(paired) == after
    assert paired("policy", "settings", "set", "rate_exempt=").code == 0
    assert shown(paired)["rate_exempt"] == []
    for odd in ("nonsense", "=x", "no.such.thing=1"):
        assert paired("policy", "settings", "set", odd).code in {1, 2}
    assert "spf.is_enabled" in paired("policy", "settings", "show").out


def test_a_secret_is_made_shown_once_and_withdrawn(paired: Operator) -> None:
    """The door opens with it, and keeps its last one while it is open."""
    assert paired("policy", "settings", "set", "http.is_enabled=true").code == 1
    secret = paired("policy", "secret", "make", "bearer").out.strip()
    assert len(secret) >= 40
    assert secret not in paired("policy", "settings", "show").out
    assert paired("policy", "secret", "make", "basic").code == 1  # whose?
    named = paired("policy", "secret", "make", "basic", "--name", "stalwart")
    assert "stalwart" in named.err
    assert paired("policy", "settings", "set", "http.is_enabled=true").code == 0
    assert paired("policy", "secret", "withdraw", "bearer").code == 0
    last = paired("policy", "secret", "withdraw", "basic")
    assert (last.code, "last credential" in last.err) == (1, True)
    assert shown(paired)["http.has_password"] is True
    assert shown(paired)["http.has_token"] is False
    assert paired("policy", "secret", "make", "magic").code == 1


@pytest.mark.parametrize(
    ("pairs", "body"),
    [
        (["a=1", "b=true", "c=null", "d=0.5", "e=x=y", "f="], None),
        (["s.a=1", "s.b=x"], {"s": {"a": 1, "b": "x"}}),
        (["l=a,b c", "s.l=1"], {"l": ["a", "b", "c"], "s": {"l": ["1"]}}),
        (["t=[1]", "u={}"], {"t": "[1]", "u": "{}"}),
    ],
)
def test_what_is_typed_becomes_a_body(pairs: list[str], body: dict[str, Any] | None) -> None:
    """Numbers and words of JSON as such, all else as text; lists only where there is one."""
    simple = {"a": 1, "b": True, "c": None, "d": 0.5, "e": "x=y", "f": ""}
    assert changes_of(pairs, ["l", "s.l"]) == (simple if body is None else body)


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["s=1", "s.a=1"], ["s.a=1", "s=1"]])
def test_what_makes_no_sense_is_wrong_usage(pairs: list[str]) -> None:
    """Before anything is sent."""
    with pytest.raises(Misused):
        changes_of(pairs)
