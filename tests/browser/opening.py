"""Opens pages of a control plane in a real browser, and notes what should never be seen there."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

from controlplane.api.user_auth import COOKIE

WIDE = (1280, 900)
PHONE = (390, 844)
NOTES_OF_ANSWERS = (
    "Failed to load resource",
    "htmx: htmx:sse:error",
    "htmx: htmx:error: Failed to fetch",  # a part that is fetched again while the server is away
)
POLICY = "content-security-policy"
UNSAFE = ("unsafe-inline", "unsafe-eval")


@dataclass
class Opener:
    """Opens pages at one origin, each in a browser session of its own.

    `errors` holds what any page wrote to its console, errors of its scripts, and documents without
    our Content-Security-Policy. What the browser notes of an answer like 401 or of a server that is
    away is no error.
    """

    chromium: Browser
    origin: str
    errors: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        path: str = "/",
        *,
        token: str = "",
        language: str = "en",
        theme: str = "light",
        size: tuple[int, int] = WIDE,
    ) -> Page:
        """Open a path, signed in where a session's token is given."""
        context = self.chromium.new_context(
            base_url=self.origin,
            ignore_https_errors=True,
            locale=language,
            color_scheme="dark" if theme == "dark" else "light",
            timezone_id="Europe/Berlin",
            viewport={"width": size[0], "height": size[1]},
        )
        self._contexts.append(context)
        if token:
            context.add_cookies([{"name": COOKIE, "value": token, "url": self.origin}])
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._note_policy)
        page.goto(path)
        return page

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()

    def _note_message(self, message: ConsoleMessage) -> None:
        url = str(message.location.get("url"))
        is_answer = message.text.startswith(NOTES_OF_ANSWERS) and not (
            "/static/" in url and "resource" in message.text
        )
        if message.type in {"error", "warning"} and not is_answer:
            self.errors.append(f"{message.text} ({url})")

    def _note_policy(self, response: Response) -> None:
        if response.headers.get("content-type", "").startswith("text/html"):
            policy = response.headers.get(POLICY, "")
            if "default-src 'none'" not in policy or any(word in policy for word in UNSAFE):
                self.errors.append(f"{response.url}: Content-Security-Policy {policy!r}")
