"""What needs no judging is told from the rest: never otherwise than the model says it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.core.policy_drafts import ListDraft
from controlplane.core.quick_entries import is_kept_form, quick_list_values
from nodeagent.policy.engine.values import list_value

LABELS = st.text("abz09-_", min_size=1, max_size=4) | st.sampled_from(["com", "xn--a", "a" * 63])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
LOCALS = st.text("ab.+_*\"'/%=ß@ ", max_size=4)
IPS = st.ip_addresses().map(str) | st.sampled_from(["::", "::1.2.3.4", "::ffff:1.2.3.4", "1.2.3"])
VALUES = st.one_of(
    NAMES,
    st.builds("{}{}".format, st.sampled_from(["*.", "*@", ".", "@", "*"]), NAMES),
    st.builds("{}@{}".format, LOCALS, NAMES | IPS),
    IPS,
    st.builds("{}/{}".format, IPS, st.integers(0, 130) | st.sampled_from(["08", "+8", "", "٣"])),
    st.ip_addresses(v=4, network="192.0.0.0/8").map(lambda ip: f"{str(ip).rsplit('.', 1)[0]}.0/24"),
    st.text(max_size=12),
)


@given(VALUES)
@example("192.0.2.0/32")
@example("2001:DB8::1")
@example("2001:0db8::1")
@example("1.2.3.4\n")
@example("a.test\n")
@example(f"{'a' * 64}.test")
@example(".".join(["a" * 63] * 4) + ".test")
@example("0.0.0.0/0")
@example("::/0")
def test_what_is_taken_as_it_is_is_what_would_be_kept(value: str) -> None:
    """No spelling gets past the one form; what is refused is never taken."""
    if is_kept_form(value):
        assert list_value(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "192.0.2.1",
        "192.0.2.0/24",
        "2001:db8::1",
        "2001:db8::/32",
        "example.com",
        "*.example.com",
        "*@example.com",
        "first.last+tag@mail.example.com",
        "_dmarc.example.com",
        f"{'a' * 63}.example",
    ],
)
def test_what_lists_are_made_of_is_taken_quickly(value: str) -> None:
    """Or the quick way would be none."""
    assert list_value(value) == value
    assert is_kept_form(value)


@given(
    st.fixed_dictionaries(
        {"value": VALUES | st.none() | st.integers()},
        optional={
            "reason": st.text(max_size=6) | st.just("a" * 500) | st.just("a" * 501) | st.none(),
            "expires_at": st.sampled_from(
                [None, "", "2031-05-01T12:00:00+02:00", "2031-05-01", "9999-01-01T00:00Z", 7]
            ),
            "other": st.just("x"),
        },
    )
)
@example({"value": "a.test", "reason": "a\x7f"})
@example({"value": "a.test", "reason": "a" * 501})
@example({"value": "a.test", "expires_at": "2031-05-01T12:00:00"})
def test_an_entry_is_the_same_as_by_the_model(given_: dict[str, Any]) -> None:
    """Where the quick way gives an entry, the model gives this one; where it refuses, neither."""
    quick = quick_list_values(given_)
    if quick is None:
        return
    try:
        draft = ListDraft.model_validate(given_)
    except ValidationError:
        pytest.fail(f"{given_} was taken and is wrong")
    expires_at = draft.expires_at.timestamp() if draft.expires_at is not None else None
    assert quick == {"value": draft.value, "reason": draft.reason, "expires_at": expires_at}


def test_a_time_is_read_quickly_as_well() -> None:
    """Whole lists expire at once."""
    found = quick_list_values({"value": "a.test", "expires_at": "2031-05-01T12:00:00+02:00"})
    assert found == {"value": "a.test", "reason": "", "expires_at": 1_935_396_000.0}
