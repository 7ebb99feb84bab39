"""Which attachments are dangerous: by name, by names inside archives, by their first bytes.

A name is judged as the reader's system will take it: full-width letters are letters, invisible
characters and trailing dots and spaces are nothing, "invoice.pdf.exe" is a program. A character
that turns the direction of writing has no business in a name ("photo[U+202E]gpj.exe" is shown as
"photoexe.jpg"), nor has a program under the name of something else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.content import Attachment, Content, Kind
from nodeagent.policy.engine.html_text import without_invisible

MOST_HITS: Final = 20
_MOST_MATCHED_CHARS: Final = 100
_TURNS: Final = frozenset("\u202d\u202e")  # the overrides; marks alone do stand in honest names
_CLASS_ID: Final = re.compile(r"\.\{[0-9a-f-]{36}\}$")  # Windows opens it with that class
_SHOWN: Final = frozenset(
    (  # what a program is disguised as
        *(
            "avi",
            "bmp",
            "csv",
            "doc",
            "docx",
            "gif",
            "htm",
            "html",
            "jpeg",
            "jpg",
            "mov",
            "mp3",
            "mp4",
        ),
        *(
            "odt",
            "pdf",
            "png",
            "ppt",
            "pptx",
            "rtf",
            "tif",
            "tiff",
            "txt",
            "wav",
            "xls",
            "xlsx",
            "xml",
        ),
    )
)
_NAMES_OF: Final = {  # which extensions do not contradict what the first bytes say
    Kind.WINDOWS_PROGRAM: frozenset(
        (
            *("acm", "ax", "bin", "com", "cpl", "dll", "drv", "efi", "exe", "fon", "mui", "node"),
            *("ocx", "pyd", "scr", "sys", "tlb", "xll"),
        )
    ),
    Kind.LINUX_PROGRAM: frozenset(("", "axf", "bin", "elf", "ko", "o", "out", "prx", "run", "so")),
    Kind.MAC_PROGRAM: frozenset(("", "bin", "bundle", "class", "dylib", "o", "out")),
    Kind.SHORTCUT: frozenset(("lnk",)),
}


@dataclass(frozen=True, slots=True)
class AttachmentHit:
    """One rule that an attachment broke; `text` names no file, `matched` does."""

    rule: str  # "extension", "double-extension", "inner-extension", "disguised", "encrypted"
    text: str
    matched: str  # at most 100 characters


def find_dangerous(content: Content, settings: PolicySettings) -> tuple[AttachmentHit, ...]:
    """Return what is dangerous among the attachments, at most `MOST_HITS`; empty: nothing."""
    if not content.attachments:
        return ()
    blocked = frozenset(one.strip().lstrip(".").lower() for one in settings.blocked_extensions)
    found: dict[AttachmentHit, None] = {}
    for attachment in content.attachments:
        for hit in _hits(attachment, blocked, settings):
            found[hit] = None
            if len(found) >= MOST_HITS:
                return tuple(found)
    return tuple(found)


def extensions(name: str) -> tuple[str, str]:
    """Return the extension that counts and the one before it, in lower case without dots."""
    name = unicodedata.normalize("NFKC", without_invisible(name)).lower()
    name = name.replace("\\", "/").rpartition("/")[2].partition("::")[0].rstrip(" .\"'")
    stem, _dot, last = name.rpartition(".")
    before = stem.rstrip(" .").rpartition(".")[2] if "." in stem else ""
    return (last.strip() if stem or "." in name else ""), before.strip()


def _hits(
    attachment: Attachment, blocked: frozenset[str], settings: PolicySettings
) -> Iterator[AttachmentHit]:
    """Yield the rules that one attachment breaks."""
    name = attachment.name
    last, before = extensions(name)
    if last in blocked and before in _SHOWN:
        text = f"an attachment pretends to be .{before} and is .{last}"
        yield _hit("double-extension", text, name)
    else:
        for one in (last, extensions(name.partition("\0")[0])[0]):  # some programs stop at a NUL
            if one in blocked:
                yield _hit("extension", f"attachments of the type .{one} are blocked", name)
                break
    if settings.blocks_disguised:
        yield from _disguises(attachment, last)
    if settings.blocks_encrypted and attachment.is_encrypted:
        text = "an archive is encrypted, so nobody can look into it"
        yield _hit("encrypted", text, name)
    yield from _inner_hits(attachment.inner_names, blocked)


def _disguises(attachment: Attachment, last: str) -> Iterator[AttachmentHit]:
    """Yield what makes an attachment look like something that it is not."""
    name = attachment.name
    if not _TURNS.isdisjoint(name) or _CLASS_ID.search(name.lower()):
        yield _hit("disguised", "the name of an attachment hides its type", name)
    honest = _NAMES_OF.get(attachment.kind)
    if honest is not None and last not in honest:
        text = f"an attachment is a {attachment.kind.replace('-', ' ')} under another type's name"
        yield _hit("disguised", text, name)


def _inner_hits(names: Iterable[str], blocked: frozenset[str]) -> Iterator[AttachmentHit]:
    """Yield the dangerous names inside an archive."""
    for name in names:
        last = extensions(name)[0]
        if last in blocked:
            yield _hit("inner-extension", f"an archive holds a file of the type .{last}", name)
        elif not _TURNS.isdisjoint(name):
            yield _hit("disguised", "the name of a file in an archive hides its type", name)


def _hit(rule: str, text: str, matched: str) -> AttachmentHit:
    return AttachmentHit(rule, text, matched[:_MOST_MATCHED_CHARS])
