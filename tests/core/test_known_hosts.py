"""Which known_hosts lines are read, which are refused, and what is trusted in the end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.known_hosts import (
    MOST_CHARACTERS,
    Pin,
    Place,
    is_mismatch,
    read_known_hosts,
    trusted,
    written,
)
from controlplane.core.names import BadValue
from tests.fakes.private_keys import make_key

A, B = Place("node-a", "198.51.100.11"), Place("node-b", "2001:db8::2", 2222)
PLACES = (A, B)
KEYS = [" ".join(make_key()[1].split()[:2]) for _ in range(3)]
ONE, TWO, THREE = KEYS


def test_lines_are_read_for_the_nodes_that_they_name() -> None:
    """With comments, further names, another port, a marker; each pin once, in one order."""
    text = f"""
    # a comment
    a.example,198.51.100.11 {ONE} jane@desk
    [2001:db8::2]:2222 {TWO}
    [2001:DB8::2]:2222 {TWO}
    @revoked [198.51.100.11]:22 {THREE}
    """
    assert read_known_hosts(text, PLACES) == (
        Pin("node-a", ONE),
        Pin("node-a", THREE, is_revoked=True),
        Pin("node-b", TWO),
    )
    assert read_known_hosts("", PLACES) == ()


@pytest.mark.parametrize("place", PLACES)
def test_names_that_ssh_keygen_hashed_are_found(place: Place, tmp_path: Path) -> None:
    """`HashKnownHosts` is what many have; the salt is another each time."""
    file = tmp_path / "known_hosts"
    file.write_text(f"{place.pattern} {ONE}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert place.address not in file.read_text()
    assert read_known_hosts(file.read_text(), PLACES) == (Pin(place.node, ONE),)


def test_what_is_written_is_found_by_ssh_keygen_and_read_again(tmp_path: Path) -> None:
    """In the form of sshd(8), for an address with a port and one without."""
    pins = {
        A: (Pin("node-a", ONE),),
        B: (Pin("node-b", TWO), Pin("node-b", THREE, is_revoked=True)),
    }
    text = "\n".join(line for place, mine in pins.items() for line in written(place, mine))
    assert set(read_known_hosts(text, PLACES)) == {pin for mine in pins.values() for pin in mine}
    file = tmp_path / "known_hosts"
    file.write_text(f"{text}\n")
    for place in PLACES:
        command = ["ssh-keygen", "-F", place.pattern, "-f", str(file)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert all(pin.key in found for pin in pins[place])


REFUSED = {
    "a certificate authority": (f"@cert-authority 198.51.100.11 {ONE}", "authorities are not"),
    "an unknown marker": (f"@trusted 198.51.100.11 {ONE}", "this marker is not supported"),
    "a pattern": (f"198.51.100.* {ONE}", "patterns are not supported"),
    "a negation": (f"!198.51.100.12,198.51.100.11 {ONE}", "patterns are not supported"),
    "no key": ("198.51.100.11 ssh-ed25519", "is not a host, a key type and a key"),
    "a marker alone": ("@revoked", "is not a host, a key type and a key"),
    "another host": (f"198.51.100.12 {ONE}", "names no node"),
    "another port": (f"[198.51.100.11]:2222 {ONE}", "names no node"),
    "a node's name": (f"node-a {ONE}", "names no node"),
    "a foreign hash": (f"|1|AAAA|BBBB {ONE}", "names no node"),
    "a broken hash": (f"|1|{ONE}", "is not a host, a key type and a key"),
    "a key of another type": (f"198.51.100.11 ssh-rsa {ONE.split()[1]}", "no public host key"),
    "a key that is none": ("198.51.100.11 ssh-ed25519 AAAA", "no public host key"),
    "options": (f'198.51.100.11 command="sh" {ONE}', "no public host key"),
    "both": (f"198.51.100.11 {ONE}\n@revoked 198.51.100.11 {ONE}", "both trusted and revoked"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_honoured_is_refused_by_its_line(case: tuple[str, str]) -> None:
    """Nothing is skipped silently: who pins wants to be sure."""
    text, words = case
    number = 3 + text.count("\n")
    with pytest.raises(BadValue, match=words) as refused:
        read_known_hosts(f"# pins\n[2001:db8::2]:2222 {TWO}\n{text}", PLACES)
    assert str(refused.value).startswith(f"Line {number}")


def test_a_file_has_an_end() -> None:
    """Its length is looked at first."""
    with pytest.raises(BadValue, match="too long"):
        read_known_hosts("#" * (MOST_CHARACTERS + 1), PLACES)


@given(st.text(max_size=60), st.sampled_from(["", "@revoked ", "198.51.100.11 "]))
def test_any_text_is_read_or_refused(text: str, before: str) -> None:
    """Nothing else comes of it."""
    try:
        pins = read_known_hosts(before + text, PLACES)
    except BadValue:
        return
    assert pins == ()


def test_pins_override_and_revocations_take_away() -> None:
    """Without either, what was reported counts as it is."""
    pin, revoked = Pin("node-a", ONE), Pin("node-a", TWO, is_revoked=True)
    assert trusted([TWO, THREE], ()) == (TWO, THREE)
    assert trusted([TWO, THREE], (pin,)) == (ONE,)
    assert trusted([f"{TWO} comment", THREE], (revoked,)) == (THREE,)
    assert trusted([TWO], (revoked,)) == ()
    assert trusted([], (pin, revoked)) == (ONE,)


def test_a_mismatch_is_reported_keys_of_which_none_is_trusted() -> None:
    """A node that has reported none is unknown, not wrong."""
    pin, revoked = Pin("node-a", ONE), Pin("node-a", TWO, is_revoked=True)
    assert is_mismatch([TWO], (pin,))
    assert is_mismatch([TWO], (revoked,))
    assert not is_mismatch([f"{ONE} comment", TWO], (pin,))
    assert not is_mismatch([TWO], ())
    assert not is_mismatch([], (pin,))


def test_a_reported_key_with_a_comment_is_the_same_key() -> None:
    """The files of sshd(8) end in one; without pins it is trusted as it is, and no mismatch."""
    assert not is_mismatch([f"{TWO} root@node-a"], ())
    revoked = Pin("node-a", ONE, is_revoked=True)
    assert not is_mismatch([f"{TWO} root@node-a"], (revoked,))
    assert is_mismatch([f"{ONE} root@node-a"], (revoked,))


HOST_KEYS = {
    "ed25519": ["-t", "ed25519"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
}


@pytest.mark.parametrize("options", HOST_KEYS.values(), ids=list(HOST_KEYS))
def test_every_type_that_sshd_makes_host_keys_of_is_read(
    options: list[str], tmp_path: Path
) -> None:
    """What `ssh-keyscan` shows of a host can be pinned, whichever it is."""
    file = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-N", "", *options, "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    key = " ".join(file.with_suffix(".pub").read_text().split()[:2])
    assert read_known_hosts(f"198.51.100.11 {key}", PLACES) == (Pin("node-a", key),)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(KEYS)), st.booleans(), max_size=6
    ),
    st.sampled_from(["\n", "\r\n", "\n\n# so\n"]),
)
def test_what_is_written_is_read_as_it_was(
    chosen: dict[tuple[Place, str], bool], between: str
) -> None:
    """Whatever is pinned and revoked, for two nodes, with any ends of lines, twice over."""
    pins = [(place, Pin(place.node, key, revoked)) for (place, key), revoked in chosen.items()]
    lines = [line for place, pin in pins for line in written(place, [pin])]
    again = read_known_hosts(between.join([*lines, *lines[::-1]]), PLACES)
    assert set(again) == {pin for _place, pin in pins}
    assert len(again) == len(pins)


@given(st.lists(st.sampled_from(KEYS), unique=True), st.lists(st.sampled_from(KEYS), unique=True))
def test_nothing_that_is_revoked_is_trusted(reported: list[str], revoked: list[str]) -> None:
    """And nothing is trusted without a pin that was not reported."""
    pins = [Pin("node-a", key, is_revoked=True) for key in revoked]
    assert set(trusted(reported, pins)) == set(reported) - set(revoked)
    assert is_mismatch(reported, pins) is (bool(reported) and set(reported) <= set(revoked))


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (Place("n", "198.51.100.11"), "198.51.100.11"),
        (Place("n", "198.51.100.11", 2222), "[198.51.100.11]:2222"),
        (Place("n", "2001:db8::2"), "2001:db8::2"),
    ],
)
def test_a_place_is_called_as_ssh_calls_it(place: Place, names: str) -> None:
    """sshd(8): brackets with any port but 22."""
    assert place.pattern == names


def test_a_file_that_is_as_long_as_it_may_be_is_read() -> None:
    """One character more says how many there may be."""
    assert read_known_hosts("#" * MOST_CHARACTERS, PLACES) == ()
    with pytest.raises(BadValue, match=f"^This is too long: over {MOST_CHARACTERS} characters.$"):
        read_known_hosts("#" * (MOST_CHARACTERS + 1), PLACES)
