"""Builds the mails of the corpus, and hands them over as a door does."""

from __future__ import annotations

import io
import zipfile
from email import policy
from email.message import EmailMessage

from nodeagent.policy.model import Header, Message

SENDER = "Anna Weber <anna@example.org>"


def mail(
    subject: str,
    text: str | None = None,
    html: str | None = None,
    *,
    sender: str = SENDER,
    headers: tuple[tuple[str, str], ...] = (),
    attachments: tuple[tuple[str, str, bytes], ...] = (),
) -> bytes:
    """Return a mail; an attachment is its name, its type and its bytes."""
    made = EmailMessage(policy=policy.SMTP.clone(max_line_length=200))
    made["From"] = sender
    made["To"] = "team@example.net"
    made["Subject"] = subject
    made["Date"] = "Sat, 21 Nov 2026 09:30:00 +0000"
    made["Message-ID"] = "<20261121.4711@mail.example.org>"
    for name, value in headers:
        made[name] = value
    if text is not None:
        made.set_content(text)
    if html is not None and text is not None:
        made.add_alternative(html, subtype="html")
    elif html is not None:
        made.set_content(html, subtype="html")
    for name, kind, data in attachments:
        main, _slash, sub = kind.partition("/")
        made.add_attachment(data, maintype=main, subtype=sub, filename=name)
    return made.as_bytes()


def raw_mail(*headers: str, body: str | bytes = "", sender: str = "x@example.org") -> bytes:
    """Return a mail of these header lines, for what no well-behaved program writes."""
    data = body.encode() if isinstance(body, str) else body
    head = "\r\n".join((f"From: {sender}", "To: y@example.net", *headers))
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data


def message_of(raw: bytes) -> Message:
    """Return a mail as a door hands it over."""
    head, _, body = raw.partition(b"\r\n\r\n")
    headers: list[Header] = []
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        if line[:1] in {" ", "\t"} and headers:
            headers[-1] = Header(headers[-1].name, f"{headers[-1].value}\r\n{line}")
        else:
            name, _, value = line.partition(":")
            headers.append(Header(name, value))
    return Message(tuple(headers), body, len(body))


def zipped(*names: str, is_encrypted: bool = False) -> bytes:
    """Return a ZIP with files of these names."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "text of the file " * 20)
    data = bytearray(written.getvalue())
    if is_encrypted:
        for mark, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = data.find(mark)
            while place >= 0:
                data[place + flags_at] |= 1
                place = data.find(mark, place + 4)
    return bytes(data)


PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
