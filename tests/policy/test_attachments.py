"""Which attachments are found dangerous, and which are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.attachments import MOST_HITS, extensions, find_dangerous
from nodeagent.policy.engine.content import Attachment, Content, Kind
from nodeagent.policy.engine.mime import read_content
from tests.policy.corpus.building import mail, message_of, zipped
from tests.policy.corpus.ordinary import ORDINARY

USUAL = PolicySettings()
STRICT = PolicySettings(blocks_encrypted=True)
LENIENT = PolicySettings(blocked_extensions=(), blocks_disguised=False)


def rules(*attachments: Attachment, settings: PolicySettings = USUAL) -> list[str]:
    """Return the rules that fire on these attachments."""
    return [hit.rule for hit in find_dangerous(Content(attachments=attachments), settings)]


@pytest.mark.parametrize(
    ("name", "last", "before"),
    [
        ("a.exe", "exe", ""),
        ("A.EXE", "exe", ""),
        ("invoice.pdf.exe", "exe", "pdf"),
        ("invoice.pdf      .exe", "exe", "pdf"),
        ("a.exe.", "exe", ""),
        ("a.exe . . ", "exe", ""),
        ("a.exe\u3000", "exe", ""),
        ("\uff41\uff0e\uff45\uff58\uff45", "exe", ""),
        ("a.e\u200bx\u00ade", "exe", ""),
        ("a.\u202eexe", "exe", ""),
        ("a\u2024exe", "exe", ""),
        ("folder/a.exe", "exe", ""),
        ("C:\\x\\a.scr", "scr", ""),
        ("a.txt/b.exe", "exe", ""),
        ("a.exe::$DATA", "exe", ""),
        ('"a.exe"', "exe", ""),
        (".exe", "exe", ""),
        ("exe", "", ""),
        ("a.tar.gz", "gz", "tar"),
        ("no extension", "", ""),
        ("", "", ""),
        ("...", "", ""),
    ],
)
def test_the_extension_is_what_the_system_takes_it_for(name: str, last: str, before: str):
    """The extension is what the system takes it for."""
    assert extensions(name) == (last, before)


@pytest.mark.parametrize("extension", USUAL.blocked_extensions)
def test_each_blocked_extension_is_found(extension: str):
    """Each blocked extension is found."""
    assert rules(Attachment(f"file.{extension.upper()}")) == ["extension"]


@pytest.mark.parametrize(
    "name",
    [
        "report.pdf",
        "photo.jpg",
        "exe",
        "executive.summary.docx",
        "com.example.txt",
        "a.exe.txt",
        "",
    ],
)
def test_ordinary_names_are_left_alone(name: str):
    """Ordinary names are left alone."""
    assert rules(Attachment(name)) == []


@pytest.mark.parametrize("name", ["invoice.pdf.exe", "photo.jpg .scr", "x.docx.js", "x.PDF.LNK"])
def test_a_double_extension_is_told_as_such(name: str):
    """A double extension is told as such."""
    assert rules(Attachment(name)) == ["double-extension"]


def test_the_administrators_own_list_counts():
    """The administrators own list counts."""
    settings = PolicySettings(blocked_extensions=(".Docm", " xll"))
    found = (Attachment("a.docm"), Attachment("b.XLL"), Attachment("c.exe"))
    assert rules(*found, settings=settings) == ["extension", "extension"]


@pytest.mark.parametrize(
    "name",
    [
        "photo\u202egpj.exe",
        "photo\u202egpj.txt",
        "a\u202dtxt",
        "a.txt.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}",
    ],
)
def test_a_name_that_hides_its_type_is_found(name: str):
    """A name that hides its type is found."""
    assert "disguised" in rules(Attachment(name))


@pytest.mark.parametrize("name", ["חשבונית.pdf", "\u200fחשבונית\u200f.pdf", "\u202aC:\\a.pdf"])  # noqa: RUF001
def test_names_of_languages_that_run_leftwards_are_left_alone(name: str):
    """Names of languages that run leftwards are left alone."""
    assert rules(Attachment(name)) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.WINDOWS_PROGRAM, "invoice.pdf"),
        (Kind.WINDOWS_PROGRAM, "invoice"),
        (Kind.WINDOWS_PROGRAM, ""),
        (Kind.LINUX_PROGRAM, "photo.jpg"),
        (Kind.MAC_PROGRAM, "notes.txt"),
        (Kind.SHORTCUT, "folder.zip"),
    ],
)
def test_a_program_under_another_types_name_is_found(kind: Kind, name: str):
    """A program under another types name is found."""
    assert rules(Attachment(name, kind=kind)) == ["disguised"]
    assert rules(Attachment(name, kind=kind), settings=LENIENT) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.WINDOWS_PROGRAM, "library.dll"),
        (Kind.WINDOWS_PROGRAM, "firmware.bin"),
        (Kind.LINUX_PROGRAM, "libx.so"),
        (Kind.LINUX_PROGRAM, "tool"),
        (Kind.MAC_PROGRAM, "Main.class"),
        (Kind.PDF, "invoice.pdf"),
        (Kind.ZIP, "report.docx"),
        (Kind.OLE, "old.doc"),
        (Kind.SCRIPT, "notes.txt"),
    ],
)
def test_what_the_first_bytes_say_may_agree_with_the_name(kind: Kind, name: str):
    """What the first bytes say may agree with the name."""
    assert rules(Attachment(name, kind=kind)) == []


def test_names_inside_archives_are_judged():
    """Names inside archives are judged."""
    found = Attachment("files.zip", inner_names=("a.txt", "folder/b.JS", "c.pdf.exe", "d\u202etxt"))
    assert rules(found) == ["inner-extension", "inner-extension", "disguised"]
    assert rules(found, settings=LENIENT) == ["disguised"]


def test_encrypted_archives_are_found_only_where_the_administrator_says_so():
    """Encrypted archives are found only where the administrator says so."""
    found = Attachment("files.zip", is_encrypted=True)
    assert rules(found) == []
    assert rules(found, settings=STRICT) == ["encrypted"]


def test_a_hit_names_the_file_and_its_text_does_not():
    """A hit names the file and its text does not."""
    (hit,) = find_dangerous(Content(attachments=(Attachment("secret name.exe"),)), USUAL)
    assert hit.matched == "secret name.exe"
    assert hit.text == "attachments of the type .exe are blocked"


def test_hits_and_what_they_show_are_bounded():
    """Hits and what they show are bounded."""
    many = Attachment(
        "a.zip", inner_names=tuple(f"{number}{'x' * 200}.exe" for number in range(500))
    )
    hits = find_dangerous(Content(attachments=(many,)), USUAL)
    assert len(hits) == MOST_HITS
    assert max(len(hit.matched) for hit in hits) == 100


def test_a_name_that_stands_twice_is_told_once():
    """A name that stands twice is told once."""
    assert rules(Attachment("a.exe"), Attachment("a.exe")) == ["extension"]


def test_a_program_in_a_zip_in_a_real_mail_is_found():
    """A program in a ZIP in a real mail is found."""
    files = (("invoice.zip", "application/zip", zipped("invoice.pdf.exe")),)
    content = read_content(message_of(mail("Invoice", "See the file.\n", attachments=files)))
    assert [hit.rule for hit in find_dangerous(content, USUAL)] == ["inner-extension"]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_mails_have_no_dangerous_attachment(name: str):
    """Ordinary mails have no dangerous attachment."""
    content = read_content(message_of(ORDINARY[name]))
    assert find_dangerous(content, USUAL) == ()


@given(st.text(max_size=100))
def test_any_name_is_judged(name: str):
    """Any name is judged."""
    rules(Attachment(name, inner_names=(name,)), settings=STRICT)


@given(st.text(st.sampled_from("ab .\u200b\uff45/\\"), max_size=20))
def test_nothing_before_the_dot_hides_a_program(before: str):
    """Nothing before the dot hides a program."""
    assert rules(Attachment(f"{before}x.exe")) != []


def test_the_sentence_names_a_type_and_nothing_of_the_name() -> None:
    """It leaves the node under any privacy; what stands behind a NUL is the stranger's own."""
    secret = Attachment("a.exe\0.secret plan of alice@victim.example")
    (hit,) = find_dangerous(Content(attachments=(secret,)), USUAL)
    assert hit.rule == "extension"
    assert hit.text == "attachments of the type .exe are blocked"


@given(st.text(st.sampled_from("ab.\0 /\\:xe"), max_size=30))
def test_no_sentence_quotes_a_name(name: str) -> None:
    """Whatever it is: only types that the settings name are in it."""
    settings = PolicySettings(blocked_extensions=("exe",))
    for hit in find_dangerous(
        Content(attachments=(Attachment(name + ".exe\0." + name),)), settings
    ):
        assert "." not in hit.text.replace(".exe", "")
