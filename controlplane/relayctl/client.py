"""One method per HTTP verb; every refusal becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from controlplane import __version__
from controlplane.relayctl.errors import Misused, NotLoggedIn, Refused, Unreachable
from controlplane.relayctl.profile import Profile
from controlplane.relayctl.trust import split_address, tls_context

TIMEOUT_S: Final = 60.0
FILE_TIMEOUT_S: Final = 900.0
"""A list of a million entries is checked and written before the answer."""
API: Final = "/api/v1"
UNAUTHORISED: Final = 401
FIRST_ERROR: Final = 400
NO_CONTENT: Final = 204


class Client:
    """A connection to the control plane of one profile."""

    def __init__(self, profile: Profile) -> None:
        self._url = profile.require_url()
        split_address(self._url)
        headers = {"User-Agent": f"relayctl/{__version__}"}
        if profile.token:
            headers["Authorization"] = f"Bearer {profile.token}"
        name = profile.server_name
        self._extensions = {"sni_hostname": name} if name is not None else {}
        self._http = httpx2.Client(
            base_url=self._url,
            verify=tls_context(profile),
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """Read something; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._send("GET", path, params=given)

    def stream(self, path: str, **params: Any) -> Iterator[str]:
        """Read a long text part by part; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        try:
            with self._http.stream(
                "GET", f"{API}{path}", params=given, extensions=self._extensions
            ) as answer:
                if answer.status_code >= FIRST_ERROR:
                    answer.read()
                    raise _refusal(answer)
                yield from answer.iter_text()
        except httpx2.RequestError as error:
            raise Unreachable(_why(self._url, error)) from error

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask for something to be done."""
        return self._send("POST", path, json=body)

    def post_file(self, path: str, content: bytes, media: str, **params: Any) -> Any:
        """Send a file of this media type; a long one is waited for."""
        headers, more = {"Content-Type": media}, {"timeout": FILE_TIMEOUT_S, "params": params}
        return self._send("POST", path, content=content, headers=headers, **more)

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Create or replace something."""
        return self._send("PUT", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change a part of something."""
        return self._send("PATCH", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        """Remove something."""
        return self._send("DELETE", path, params=params)

    def get_text(self, path: str) -> str:
        """Read what is no JSON, a CSV file for example."""
        return str(self._answer("GET", path).text)

    def _send(self, method: str, path: str, **content: Any) -> Any:
        answer = self._answer(method, path, **content)
        if answer.status_code == NO_CONTENT:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise Unreachable(f"{self._url} answers, but not as a control plane does.") from error

    def _answer(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            answer = self._http.request(
                method, f"{API}{path}", extensions=self._extensions, **content
            )
        except httpx2.TimeoutException as error:
            raise Unreachable(f"{self._url} did not answer in time.") from error
        except httpx2.RequestError as error:
            raise Unreachable(_why(self._url, error)) from error
        except ValueError as error:
            raise Misused("A number is not finite, or a text is no UTF-8.") from error
        if answer.status_code >= FIRST_ERROR:
            raise _refusal(answer)
        return answer


def _why(url: str, error: httpx2.RequestError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"{url} shows a certificate that nothing here vouches for; set RELAYCTL_CA, or log in "
            "again and compare the fingerprint."
        )
    return f"{url} does not answer: {error}."


def _refusal(answer: httpx2.Response) -> Refused | NotLoggedIn:
    try:
        body = answer.json()
        detail, fields = str(body["detail"]), dict(body.get("fields", {}))
        reason = body.get("reason")
    except (ValueError, KeyError, TypeError):
        return Refused(f"The control plane answered {answer.status_code} without a reason.")
    if answer.status_code == UNAUTHORISED:
        return NotLoggedIn(f"{detail.rstrip('.')} (relayctl login).", reason=reason)
    return Refused(detail, fields, reason)
