"""Tries a route: a real SMTP dialogue up to RCPT, noted line by line, no message and no secret.

Theory of operation. It does what smtp(8) does on this route and stops before DATA: it connects,
reads the banner, says EHLO, turns on TLS as the route's mode asks, authenticates if there are
credentials, names sender and recipient, and takes leave. TLS follows the levels of postconf(5):
`may` uses what is offered, `encrypt` insists, `verify` also compares the certificate with the next
hop's name. As in our main.cf, a password goes out in clear only where TLS was switched off. Nothing
is queued, so a try changes nothing anywhere but in the next hop's log.

Lines are RFC 5321's; what authenticates is masked in whole lines, which are shortened after that.
smtplib bounds neither a reply's lines nor the whole dialogue's time, and drops what was said.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import Final

from nodeagent.core.route_wire import RouteTestLine, RouteTestResult, RouteTestWish, Speaker

STEP_S: Final = 10.0
WHOLE_S: Final = 30.0
MAX_LINE: Final = 500
LONGEST_LINE: Final = 4096
MAX_LINES: Final = 200
MAX_REPLY_LINES: Final = 50
CA_DIRECTORY: Final = "/etc/ssl/certs"
MASK: Final = "(hidden)"
_DONE: Final = 2  # the first digit of a reply (RFC 5321, 4.2.1)
_GO_ON: Final = 3
_REPLY: Final = re.compile(r"[2-5][0-9]{2}(?:[ -]|$)")


class DialogueEnded(Exception):
    """The dialogue cannot go on; the text says why in one sentence."""


def try_route(wish: RouteTestWish, ca_directory: str = CA_DIRECTORY) -> RouteTestResult:
    """Hold the dialogue; never raises for what a next hop or the network does."""
    dialogue = Dialogue(wish, ca_directory)
    try:
        dialogue.run()
    except DialogueEnded as ended:
        return dialogue.result(is_ok=False, text=str(ended))
    except (ssl.SSLError, ssl.CertificateError) as error:
        return dialogue.result(is_ok=False, text=f"TLS failed: {_reason(error)}.")
    except TimeoutError:
        return dialogue.result(is_ok=False, text="The next hop did not answer in time.")
    except OSError as error:
        return dialogue.result(is_ok=False, text=f"The connection failed: {_reason(error)}.")
    finally:
        dialogue.close()
    return dialogue.result(is_ok=True, text=f"{wish.next_hop} takes mail for {wish.recipient}.")


class Dialogue:
    """One connection to a next hop and what was said on it."""

    def __init__(self, wish: RouteTestWish, ca_directory: str) -> None:
        self._wish = wish
        self._ca_directory = ca_directory
        self._lines: list[RouteTestLine] = []
        self._until_s = time.monotonic() + WHOLE_S
        self._connection: socket.socket | None = None
        self._unread = b""
        self._offers: dict[str, str] = {}
        self._has_tls = False

    def run(self) -> None:
        """Go as far as RCPT; raises DialogueEnded, OSError."""
        self._connect()
        self._expect(self._reply(), "The banner refuses us")
        self._greet()
        self._start_tls()
        self._authenticate()
        wish = self._wish
        self._expect(self._say(f"MAIL FROM:<{wish.mail_from}>"), "The sender is refused")
        self._expect(self._say(f"RCPT TO:<{wish.recipient}>"), "The recipient is refused")
        with suppress(DialogueEnded, OSError):  # the recipient is accepted, whatever comes of it
            self._say("QUIT")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def result(self, *, is_ok: bool, text: str) -> RouteTestResult:
        """Return what is to be reported."""
        lines = tuple(self._lines[:MAX_LINES])
        shown = _clean(self._masked(text))
        return RouteTestResult(id=self._wish.id, ok=is_ok, text=shown, lines=lines)

    def _connect(self) -> None:
        host, port = self._wish.next_hop, self._wish.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DialogueEnded(f"{host} cannot be resolved: {_reason(error)}.") from error
        problem: OSError | None = None
        for family, kind, protocol, _, address in found:
            self._note(Speaker.NODE, f"connecting to {address[0]} port {port}")
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(self._step_s())
            try:
                connection.connect(address)
            except OSError as error:
                connection.close()
                self._note(Speaker.NODE, f"no connection: {_reason(error)}")
                problem = error
                continue
            self._connection = connection
            return
        raise problem or OSError("no address")

    def _greet(self) -> None:
        code, lines = self._say(f"EHLO {self._wish.helo}")
        if code // 100 != _DONE:
            self._expect(self._say(f"HELO {self._wish.helo}"), "EHLO and HELO are refused")
            lines = []
        words = [line.upper().partition(" ") for line in lines[1:]]
        self._offers = {word: rest for word, _, rest in words}

    def _start_tls(self) -> None:
        mode = self._wish.tls_mode
        if mode == "none":
            return
        if "STARTTLS" not in self._offers:
            if mode == "may":
                self._note(Speaker.NODE, "STARTTLS is not offered; going on without TLS")
                return
            raise DialogueEnded(f"TLS is demanded ({mode}), but STARTTLS is not offered.")
        self._expect(self._say("STARTTLS"), "STARTTLS is refused")
        connection = self._open_connection()
        connection.settimeout(self._step_s())
        context = _tls_context(self._ca_directory if mode == "verify" else None)
        secured = context.wrap_socket(connection, server_hostname=self._wish.next_hop)
        self._connection, self._has_tls = secured, True
        self._unread = b""  # what came before the handshake is anybody's
        cipher = (secured.cipher() or ("?",))[0]
        verified = "verified" if mode == "verify" else "not verified"
        self._note(Speaker.NODE, f"{secured.version()} with {cipher}; certificate {verified}")
        self._greet()

    def _authenticate(self) -> None:
        user, secret = self._wish.username, self._wish.password
        if not user or secret is None:
            return
        if not self._has_tls and self._wish.tls_mode != "none":
            raise DialogueEnded("Without TLS the password is not sent, so mail would wait.")
        mechanisms = self._offers.get("AUTH", "").split()
        password = secret.get_secret_value()
        if "PLAIN" in mechanisms:
            token = _base64(f"\0{user}\0{password}")
            answer = self._say(f"AUTH PLAIN {token}", shown=f"AUTH PLAIN {MASK}")
        elif "LOGIN" in mechanisms:
            self._expect(self._say("AUTH LOGIN"), "AUTH LOGIN is refused", _GO_ON)
            named = self._say(_base64(user), shown=MASK)
            self._expect(named, "The user name is refused", _GO_ON)
            answer = self._say(_base64(password), shown=MASK)
        else:
            raise DialogueEnded("The next hop offers neither AUTH PLAIN nor AUTH LOGIN.")
        self._expect(answer, "User name or password is refused")

    def _say(self, line: str, shown: str | None = None) -> tuple[int, list[str]]:
        self._note(Speaker.CLIENT, shown or line)
        connection = self._open_connection()
        connection.settimeout(self._step_s())
        connection.sendall(f"{line}\r\n".encode())
        return self._reply()

    def _reply(self) -> tuple[int, list[str]]:
        """Return code and texts of one reply (RFC 5321, 4.2.1)."""
        texts: list[str] = []
        while len(texts) < MAX_REPLY_LINES:
            line = self._read_line()
            self._note(Speaker.SERVER, line)
            if not _REPLY.match(line):
                raise DialogueEnded("The next hop does not speak SMTP.")
            texts.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), texts
        raise DialogueEnded(f"A reply has more than {MAX_REPLY_LINES} lines.")

    def _read_line(self) -> str:
        """Return the next line whole: a secret in it could not be masked in parts."""
        connection = self._open_connection()
        while b"\n" not in self._unread:
            if len(self._unread) > LONGEST_LINE:
                raise DialogueEnded(f"A line has more than {LONGEST_LINE} bytes.")
            connection.settimeout(self._step_s())
            data = connection.recv(LONGEST_LINE)
            if not data:
                raise DialogueEnded("The next hop closed the connection.")
            self._unread += data
        raw, _, self._unread = self._unread.partition(b"\n")
        return raw.decode("utf-8", "replace").rstrip("\r")

    def _open_connection(self) -> socket.socket:
        if self._connection is None:
            raise DialogueEnded("There is no connection.")
        return self._connection

    def _step_s(self) -> float:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return min(STEP_S, left_s)

    def _note(self, speaker: Speaker, text: str) -> None:
        self._lines.append(RouteTestLine(speaker=speaker, text=_clean(self._masked(text))))

    def _masked(self, text: str) -> str:
        """Take the password out of whatever is noted: a next hop may send it back."""
        secret = self._wish.password
        if secret is None or not secret.get_secret_value():
            return text
        password = secret.get_secret_value()
        user = self._wish.username or ""
        for shape in (_base64(f"\0{user}\0{password}"), _base64(password), password):
            text = text.replace(shape, MASK)
        return text

    @staticmethod
    def _expect(answer: tuple[int, list[str]], otherwise: str, wanted: int = _DONE) -> None:
        code, texts = answer
        if code // 100 != wanted:
            raise DialogueEnded(f"{otherwise}: {code} {texts[-1].rstrip('.')}.")


def _tls_context(ca_directory: str | None) -> ssl.SSLContext:
    """Return what smtp(8) does with our main.cf: the host's CAs, TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = ca_directory is not None
    context.verify_mode = ssl.CERT_REQUIRED if ca_directory else ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_directory is not None:
        context.load_verify_locations(capath=ca_directory)
    return context


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _clean(text: str) -> str:
    """Return text without control characters, of a length that can be kept."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)[
        :MAX_LINE
    ]


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".") or "the certificate cannot be verified"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.rstrip(".")
    return str(error).rstrip(".") or type(error).__name__
