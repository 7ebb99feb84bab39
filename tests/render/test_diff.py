"""Differences between two renderings: complete for what is open, silent about what is secret."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from controlplane.core.diff import MAX_LINES, diff, is_secret
from controlplane.core.render import render
from controlplane.core.spec import RecipientDomain, SenderRoute, TlsSpec
from nodeagent.core.contract import ConfigFile
from tests.render.specs import certificate, certificate_pem, key_pem, new_key, pair


def route(password: str, sender: str = "@example.com") -> SenderRoute:
    """Give a route with a password."""
    return SenderRoute(
        sender=sender, next_hop="smtp.example", username="login", password=SecretStr(password)
    )


def test_equal_renderings_have_no_difference() -> None:
    """Nothing changed, nothing shown."""
    assert diff(render(pair(), "node-a"), render(pair(), "node-a")) == ()


def test_changed_file_is_shown_as_a_unified_diff() -> None:
    """An administrator sees the lines that go and come."""
    old, new = pair(message_size_limit_bytes=100_000), pair(message_size_limit_bytes=200_000)
    (found,) = diff(render(old, "node-a"), render(new, "node-a"))
    assert (found.path, found.change, found.is_secret) == ("/etc/postfix/main.cf", "changed", False)
    lines = found.text.splitlines()
    assert lines[:2] == ["--- a/etc/postfix/main.cf", "+++ b/etc/postfix/main.cf"]
    assert "-message_size_limit = 100000" in lines
    assert "+message_size_limit = 200000" in lines


def test_first_rendering_adds_every_file() -> None:
    """Against nothing, all files are new."""
    files = render(pair(), "node-a")
    found = diff((), files)
    assert [one.path for one in found] == [file.path for file in files]
    assert {one.change for one in found} == {"added"}
    assert found[0].text.startswith("--- /dev/null\n")


def test_removed_file_is_shown() -> None:
    """A certificate that is taken away takes its file along."""
    with_tls = render(pair(tls=certificate()), "node-a")
    found = {one.path: one for one in diff(with_tls, render(pair(), "node-a"))}
    assert found["/etc/postfix/relay/tls.pem"].change == "removed"


def test_changed_password_shows_whose_it_is_and_no_more() -> None:
    """The sender stays readable; user and password, old and new, do not."""
    old = render(pair(routes=(route("0ld-secret"), route("kept-secret", "@z.example"))), "node-a")
    new = render(pair(routes=(route("n3w-secret"), route("kept-secret", "@z.example"))), "node-a")
    (found,) = diff(old, new)
    assert found.path == "/etc/postfix/relay/sender_credentials.map"
    assert found.is_secret
    assert "-@example.com (hidden)" in found.text.splitlines()
    assert "+@example.com (hidden)" in found.text.splitlines()
    assert " @z.example (hidden)" in found.text.splitlines()
    for secret in ("0ld-secret", "n3w-secret", "kept-secret", "login"):
        assert secret not in found.text


def test_changed_key_shows_nothing_of_either() -> None:
    """No line of a PEM file is ever shown."""
    key = new_key()
    other = TlsSpec(cert_pem=certificate_pem(key), key_pem=SecretStr(key_pem(key)))
    old, new = pair(tls=certificate()), pair(tls=other)
    (found,) = diff(render(old, "node-a"), render(new, "node-a"))
    body = [line for line in found.text.splitlines() if not line.startswith(("---", "+++", "@@"))]
    assert body
    assert {line[1:] for line in body} == {"(hidden)"}
    assert found.text.count("BEGIN") == 0


def test_secret_line_that_looks_like_a_header_is_hidden_too() -> None:
    """A removed line that starts with dashes becomes `---...` in a diff, as PEM's first does."""
    old = ConfigFile(path="/x/key.pem", content="-- s3cret\nend\n", mode="0600")
    new = ConfigFile(path="/x/key.pem", content="++ s3cret2\nend\n", mode="0600")
    (found,) = diff((old,), (new,))
    assert "s3cret" not in found.text


def test_file_that_becomes_open_is_still_hidden() -> None:
    """What was secret on one side is secret in the difference."""
    old = ConfigFile(path="/x/a.map", content="key s3cret\n", mode="0600")
    new = ConfigFile(path="/x/a.map", content="key s3cret\n", mode="0644")
    (found,) = diff((old,), (new,))
    assert found.is_secret
    assert "mode 0600 root -> 0644 root" in found.text
    assert "s3cret" not in found.text


def test_mode_alone_is_a_difference() -> None:
    """A file that others may run from now on is shown even with equal text."""
    old = ConfigFile(path="/x/a", content="text\n", mode="0644")
    new = ConfigFile(path="/x/a", content="text\n", mode="0755")
    (found,) = diff((old,), (new,))
    assert found.text == "mode 0644 root -> 0755 root"


def test_secret_is_what_nobody_else_may_read() -> None:
    """Files that everybody on the host may read are shown in full, all others are not."""
    modes = {"0600": True, "0400": True, "0640": True, "0644": False, "0755": False}
    for mode, expected in modes.items():
        assert is_secret(ConfigFile(path="/x", content="", mode=mode)) is expected


def test_huge_difference_is_cut() -> None:
    """A first list of many thousand domains does not become a page of many megabytes."""
    domains = tuple(RecipientDomain(name=f"d{number}.example") for number in range(5_000))
    old, new = render(pair(), "node-a"), render(pair(recipient_domains=domains), "node-a")
    (found,) = diff(old, new)
    lines = found.text.splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].endswith("more lines)")


def test_file_of_any_kind_says_how_much_was_cut() -> None:
    """An administrator knows how much is not shown, and a diff of just the limit is whole."""
    head = 3  # two names and the hunk
    for count in (MAX_LINES - head, MAX_LINES - head + 1, MAX_LINES + 997):
        new = ConfigFile(path="/x/a", content="line\n" * count, mode="0644")
        (found,) = diff((), (new,))
        lines = found.text.splitlines()
        left = count + head - MAX_LINES
        assert lines[-1] == (f"({left} more lines)" if left > 0 else "+line")
        assert len(lines) == min(count + head, MAX_LINES + 1)


def test_added_and_removed_files_name_the_side_that_is_not_there() -> None:
    """As diff(1) writes it: /dev/null before an added file, after a removed one."""
    one = ConfigFile(path="/x/a", content="text\n", mode="0644")
    (added,), (removed,) = diff((), (one,)), diff((one,), ())
    assert added.text.splitlines()[:2] == ["--- /dev/null", "+++ b/x/a"]
    assert removed.text.splitlines()[:2] == ["--- a/x/a", "+++ /dev/null"]
    assert (added.text.splitlines()[-1], removed.text.splitlines()[-1]) == ("+text", "-text")


def test_another_owner_is_a_difference() -> None:
    """A file that another user may read from now on is shown even with equal text and mode."""
    old = ConfigFile(path="/x/a", content="text\n", mode="0644", owner="root")
    (found,) = diff((old,), (old.model_copy(update={"owner": "postfix"}),))
    assert found.text == "mode 0644 root -> 0644 postfix"
    assert found.change == "changed"


def test_comment_of_a_secret_table_is_shown() -> None:
    """It tells whose table it is, and holds no credentials: only entries do."""
    old = ConfigFile(path="/x/a.map", content="# rendered\n@a s3cret\n", mode="0640")
    new = ConfigFile(path="/x/a.map", content="# rendered\n@b s3cret\n", mode="0640")
    (found,) = diff((old,), (new,))
    assert found.text.splitlines()[2:] == [
        "@@ -1,2 +1,2 @@",
        " # rendered",
        "-@a (hidden)",
        "+@b (hidden)",
    ]


LINES = st.lists(st.sampled_from(["", "a", "b c", "-x", "+x", "@@ -1 +1 @@", "#"]), max_size=6)


@given(LINES, LINES)
def test_open_file_shows_every_line_that_goes_or_comes(before: list[str], after: list[str]) -> None:
    """Taking the removed lines out and the added ones in makes the old file the new one."""
    old = ConfigFile(path="/x/a", content="\n".join([*before, "end"]), mode="0644")
    new = ConfigFile(path="/x/a", content="\n".join([*after, "end"]), mode="0644")
    found = diff((old,), (new,))
    assert bool(found) is (before != after)
    body = found[0].text.splitlines()[3:] if found else []
    gone = sorted(line[1:] for line in body if line.startswith("-"))
    come = sorted(line[1:] for line in body if line.startswith("+"))
    rest = Counter(before)
    rest.subtract(gone)
    rest.update(come)
    assert +rest == Counter(after)


@given(LINES, LINES, st.sampled_from(["0600", "0640", "0400"]), st.sampled_from(["pem", "map"]))
def test_secret_file_shows_no_second_word(
    before: list[str], after: list[str], mode: str, ending: str
) -> None:
    """Whatever the lines look like, headers of a diff included."""
    secret = [f"{line} s3cret" for line in before], [f"{line} s3cret" for line in after]
    old, new = (
        ConfigFile(path=f"/x/a.{ending}", content="\n".join(lines).replace("#", "x"), mode=mode)
        for lines in secret
    )
    for one in diff((old,), (new,)):
        assert one.is_secret
        assert "s3cret" not in one.text
