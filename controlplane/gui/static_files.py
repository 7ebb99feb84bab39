"""Serves what browsers load: the files that the build made, cached for ever and compressed.

A file's name holds the hash of its content, so a browser asks once and a new version has a new
name. Only what the manifest lists is served; nothing is looked up on the disk for a request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from markupsafe import Markup

from controlplane.api.permissions import OPEN
from controlplane.errors import NotFound, SetupFailed

router = APIRouter(include_in_schema=False)

STATIC: Final = Path(__file__).parent / "static"
MEDIA_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS: Final = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent."""

    media_type: str
    plain: bytes
    compressed: bytes


@dataclass(frozen=True)
class Assets:
    """All files by the name that they are served under, the icons, and what they are made of."""

    names: dict[str, str]
    files: dict[str, StaticFile]
    icons: dict[str, str]
    packages: tuple[dict[str, str], ...] = ()
    """Name, version and licence of each package from npm."""

    def url(self, name: str) -> str:
        """Return where `name`, as the build knows it, is served."""
        return f"/static/{self.names[name]}"

    def icon(self, name: str) -> Markup:
        """Return one of Tabler's outline icons as inline SVG, hidden from screen readers."""
        if name not in self.icons:
            raise SetupFailed(f"There is no icon {name!r}.")
        return Markup(  # noqa: S704 - made of our own build's files
            '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
            'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
            f"{self.icons[name]}</svg>"
        )


@cache
def load_assets(directory: Path = STATIC) -> Assets:
    """Read the built files; raises SetupFailed when there are none."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        names: dict[str, str] = manifest["files"]
        icons: dict[str, str] = json.loads((directory / "icons.json").read_text())
        files = {name: _read(directory / name) for name in names.values()}
        packages = tuple(manifest["packages"])
    except (OSError, ValueError, KeyError) as error:
        raise SetupFailed(
            f"The GUI's files are missing or damaged in {directory}; `make assets` builds them."
        ) from error
    return Assets(names, files, icons, packages)


def _read(path: Path) -> StaticFile:
    return StaticFile(
        media_type=MEDIA_TYPES[path.suffix.removeprefix(".")],
        plain=path.read_bytes(),
        compressed=path.with_name(f"{path.name}.gz").read_bytes(),
    )


@router.get("/static/{name}", dependencies=[OPEN])
def read_static_file(name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """Send one built file."""
    found = load_assets().files.get(name)
    if found is None:
        raise NotFound(f"There is no file {name}.")
    headers = dict(HEADERS)
    if "gzip" in accept_encoding:
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.plain, media_type=found.media_type, headers=headers)
