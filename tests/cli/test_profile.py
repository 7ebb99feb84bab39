"""What `relayctl` knows of its control plane before it speaks to it: profile, address, files."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.relayctl.connection import path_of
from controlplane.relayctl.errors import CtlError, Misused, NotLoggedIn
from controlplane.relayctl.files import read_bytes, read_text, write_text
from controlplane.relayctl.output import age
from controlplane.relayctl.output import given as options_given
from controlplane.relayctl.profile import (
    DEFAULT_FILE,
    Profile,
    load_profile,
    profile_path,
    save_profile,
)
from controlplane.relayctl.trust import (
    fetch_certificate,
    fingerprint_of,
    normalise_fingerprint,
    split_address,
    tls_context,
)

FULL = Profile(
    url="https://cp.e.tld:8443",
    token="rt_stored",
    ca="/etc/ca.pem",
    fingerprint=64 * "a",
    server_name="cp.e.tld",
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give an environment whose profile is stored, with all fields."""
    found = {"RELAYCTL_CONFIG": str(tmp_path / "home" / "profile.json")}
    save_profile(found, FULL)
    return found


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("RELAYCTL_TOKEN", "token", "rt_other"),
        ("RELAYCTL_CA", "ca", "/other.pem"),
        ("RELAYCTL_FINGERPRINT", "fingerprint", 64 * "b"),
        ("RELAYCTL_SERVER_NAME", "server_name", "other.tld"),
        ("RELAYCTL_URL", "url", "https://cp.e.tld:8443"),
    ],
)
def test_the_environment_overrides_one_by_one(
    environment: dict[str, str], variable: str, field: str, value: str
) -> None:
    """The others stay as they were stored; an empty variable is none."""
    found = load_profile({**environment, variable: value})
    assert found == Profile(**{**vars(FULL), field: value})
    assert load_profile({**environment, variable: ""}) == FULL


def test_nothing_stored_goes_to_another_control_plane(environment: dict[str, str]) -> None:
    """Neither the token nor what tells the other one; what the environment says with it counts."""
    url = "https://other.tld:8443"
    assert load_profile({**environment, "RELAYCTL_URL": url}) == Profile(url=url)
    given_with = {**environment, "RELAYCTL_URL": url, "RELAYCTL_TOKEN": "rt_its"}
    assert load_profile(given_with) == Profile(url=url, token="rt_its")


@pytest.mark.parametrize("token", ["a b", "a\n", "ä", "\x7f", " rt"])
def test_a_token_is_one_printable_word(environment: dict[str, str], token: str) -> None:
    """It stands in a header; and the sentence does not repeat it."""
    with pytest.raises(Misused) as refused:
        load_profile({**environment, "RELAYCTL_TOKEN": token})
    assert refused.value.detail == (
        "RELAYCTL_TOKEN is no token: letters, digits and signs without a space."
    )


def test_a_profile_is_where_it_is_said_to_be() -> None:
    """Below the home of who runs it, unless a variable names another file."""
    assert profile_path({}) == DEFAULT_FILE.expanduser()
    assert profile_path({"RELAYCTL_CONFIG": "~/x.json"}) == Path("~/x.json").expanduser()


TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.builds(Profile, url=TEXTS, token=TEXTS, ca=TEXTS, fingerprint=TEXTS, server_name=TEXTS))
def test_a_profile_is_read_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, profile: Profile
) -> None:
    """Whatever is in it; over one that was there, for its owner alone, and nothing else is left."""
    path = tmp_path_factory.getbasetemp() / "profiles" / "deep" / "profile.json"
    environment = {"RELAYCTL_CONFIG": str(path)}
    assert save_profile(environment, profile) == path
    assert load_profile(environment) == profile
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_profile_that_was_open_to_all_is_closed_when_it_is_saved(tmp_path: Path) -> None:
    """The new file takes the old one's place, not its mode."""
    path = tmp_path / "profile.json"
    path.write_text("{}")
    path.chmod(0o644)
    save_profile({"RELAYCTL_CONFIG": str(path)}, FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        '{"url": 5}',
        '{"url": ["https://e.tld"]}',
        '{"colour": "blue"}',
        '{"url": null, "url2": null}',
        "\ufeff{}",
    ],
)
def test_a_profile_that_is_none_is_to_be_removed(tmp_path: Path, content: str) -> None:
    """By its name; it is neither used in part nor overwritten."""
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(Misused) as refused:
        load_profile({"RELAYCTL_CONFIG": str(path)})
    assert refused.value.detail == f"{path} is damaged; remove it and log in again."
    assert path.read_text() == content


def test_a_profile_without_a_field_has_none(tmp_path: Path) -> None:
    """An older version wrote fewer; none at all is a first use."""
    path = tmp_path / "profile.json"
    environment = {"RELAYCTL_CONFIG": str(path)}
    assert load_profile(environment) == Profile()
    path.write_text(json.dumps({"url": FULL.url}))
    assert load_profile(environment) == Profile(url=FULL.url)
    with pytest.raises(NotLoggedIn, match="Say where the control plane is: relayctl login --url"):
        Profile(token="rt").require_url()


def test_a_directory_is_no_profile(tmp_path: Path) -> None:
    """Neither to read nor to write."""
    environment = {"RELAYCTL_CONFIG": str(tmp_path)}
    with pytest.raises(Misused) as refused:
        load_profile(environment)
    assert refused.value.detail == f"{tmp_path} cannot be read: Is a directory."
    with pytest.raises(Misused, match="cannot be written: "):
        save_profile(environment, FULL)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://cp.e.tld:8443", "cp.e.tld", 8443),
        ("https://cp.e.tld", "cp.e.tld", 443),
        ("https://cp.e.tld/", "cp.e.tld", 443),
        ("https://CP.e.tld:1", "cp.e.tld", 1),
        ("https://192.0.2.1:65535", "192.0.2.1", 65_535),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443),
    ],
)
def test_a_url_has_a_host_and_a_port(url: str, host: str, port: int) -> None:
    """The port of HTTPS where none is written."""
    assert split_address(url) == (host, port)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://cp.e.tld", "The URL must read https://HOST:8443."),
        ("cp.e.tld:8443", "The URL must read https://HOST:8443."),
        ("https://", "The URL must read https://HOST:8443."),
        ("https://:8443", "The URL must read https://HOST:8443."),
        ("https://e .tld", "The URL must read https://HOST:8443."),
        ("https://e.tld\n", "The URL must read https://HOST:8443."),
        ("https://ü.tld", "The URL must read https://HOST:8443."),
        ("", "The URL must read https://HOST:8443."),
        ("https://e.tld:65536", "https://e.tld:65536 has no usable host or port."),
        ("https://e.tld:-1", "https://e.tld:-1 has no usable host or port."),
        ("https://e.tld:port", "https://e.tld:port has no usable host or port."),
        ("https://[2001:db8::1", "https://[2001:db8::1 has no usable host or port."),
    ],
)
def test_a_url_that_is_none_is_wrong_usage(url: str, sentence: str) -> None:
    """Before anything is looked up; fetching a certificate says the same."""
    for use in (split_address, fetch_certificate):
        with pytest.raises(Misused) as refused:
            use(url)
        assert refused.value.detail == sentence
        assert refused.value.exit_code == 2


@given(st.binary(max_size=50))
def test_a_fingerprint_is_the_same_however_it_is_written(certificate: bytes) -> None:
    """As openssl shows it, in capitals with colons, or plain."""
    plain = fingerprint_of(certificate)
    assert plain == hashlib.sha256(certificate).hexdigest()
    openssl = ":".join(plain[at : at + 2] for at in range(0, 64, 2)).upper()
    assert normalise_fingerprint(openssl) == normalise_fingerprint(plain) == plain


@pytest.mark.parametrize("text", ["", 63 * "a", 65 * "a", 64 * "g", 64 * "٣", f" {63 * 'a'}", "::"])
def test_a_fingerprint_that_is_none_is_wrong_usage(text: str) -> None:
    """Of SHA-1, of another sign, of another length."""
    with pytest.raises(Misused) as refused:
        normalise_fingerprint(text)
    assert refused.value.detail == (
        "A fingerprint is the SHA-256 of the certificate: 64 hex digits."
    )


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\xfe"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or something else: no connection is made with the system's own instead."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misused) as refused:
        tls_context(Profile(url=FULL.url, ca=str(file)))
    assert refused.value.detail == f"The CA file {file} cannot be used."


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("nodes", "node-a"), "/nodes/node-a"),
        (("lists", 5, "x"), "/lists/5/x"),
        (("domains", "../users"), "/domains/..%2Fusers"),
        (("senders", "a@e.tld?x#y"), "/senders/a%40e.tld%3Fx%23y"),
        (("senders", "a b/ü%"), "/senders/a%20b%2F%C3%BC%25"),
        ((), ""),
    ],
)
def test_an_argument_is_one_part_of_a_path(parts: tuple[str | int, ...], path: str) -> None:
    """It leads to no other resource, whatever it holds."""
    assert path_of(*parts) == path


def test_an_argument_that_is_no_text_is_wrong_usage() -> None:
    """Bytes of a shell that are no UTF-8."""
    with pytest.raises(Misused, match=r"^An argument is no UTF-8 text\.$"):
        path_of("nodes", "\udcff")


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Text and bytes."""
    file = tmp_path / "list.csv"
    write_text(file, "name\nBücher.tld\n")
    assert read_text(file) == "name\nBücher.tld\n"
    assert read_bytes(file) == "name\nBücher.tld\n".encode()


@pytest.mark.parametrize("read", [read_text, read_bytes])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, read) -> None:
    """Not there, or a directory."""
    for file, reason in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(Misused) as refused:
            read(file)
        assert refused.value.detail == f"{file} cannot be read: {reason}."


def test_a_file_that_is_no_text_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Each with its reason."""
    file = tmp_path / "list.csv"
    file.write_bytes(b"name\n\xff\n")
    with pytest.raises(Misused) as refused:
        read_text(file)
    assert refused.value.detail == f"{file} is not UTF-8 text."
    below = file / "x"
    with pytest.raises(Misused) as refused:
        write_text(below, "x")
    assert refused.value.detail == f"{below} cannot be written: Not a directory."


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """For text and for bytes."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("ü\n".encode()), "utf-8"))
    assert read_text(Path("-")) == "ü\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
    assert read_bytes(Path("-")) == b"\xff"


def test_options_that_were_not_given_are_not_sent() -> None:
    """False, zero and nothing are something to say."""
    assert options_given(a=None, b=False, c=0, d="", e=[]) == {"b": False, "c": 0, "d": "", "e": []}


@given(st.floats(0, 59.94) | st.floats(60, 1e7))
def test_an_age_has_the_number_that_it_is(seconds: float) -> None:
    """Seconds to a tenth, minutes to a whole."""
    number, unit, ago = age(seconds).split()
    length = 1 if unit == "s" else 60
    assert (unit == "s") is (seconds < 60)
    assert abs(float(number) * length - seconds) <= length / (20 if unit == "s" else 2) + 1e-6
    assert ago == "ago"


def test_every_error_has_its_own_exit_code() -> None:
    """A script tells them apart."""
    codes = [one.exit_code for one in CtlError.__subclasses__()]
    assert sorted(codes) == [1, 2, 3, 4, 5]
