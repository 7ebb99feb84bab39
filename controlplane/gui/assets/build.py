"""Builds what browsers load: `python -m controlplane.gui.assets.build [--check]`.

npm fetches the pinned packages, this copies the few files that pages use into `../static`, with the
hash of the content in each name, compressed beside it, and listed in `manifest.json`. Run again it
does only what is missing. Nothing here runs on an installed control plane.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controlplane.gui.assets.trim_css import trim_css, words_of

ASSETS: Final = Path(__file__).parent
STATIC: Final = ASSETS.parent / "static"
MODULES: Final = ASSETS / "node_modules"
INSTALLED: Final = MODULES / ".installed.sha256"
TABLER: Final = "@tabler/core/dist/css/tabler.min.css"
BUNDLES: Final = {
    "base.css": (TABLER, "src/base.css"),
    "base.js": ("htmx.org/dist/htmx.min.js", "htmx.org/dist/ext/hx-sse.min.js", "src/base.js"),
    "charts.css": ("uplot/dist/uPlot.min.css", "src/charts.css"),
    "charts.js": ("uplot/dist/uPlot.iife.min.js", "src/charts.js"),
    "favicon.svg": ("src/favicon.svg",),
}
"""What each file that is served is made of: files of ours under `src`, the others from npm."""
SOURCE_MAP: Final = re.compile(r"/\*# sourceMappingURL=.*?\*/|//# sourceMappingURL=\S*")
HASH_DIGITS: Final = 12


class BuildFailed(Exception):
    """The assets cannot be built."""


def main() -> None:
    """Build, or with `--check` only say whether there is anything to build (exit code 3)."""
    parser = argparse.ArgumentParser(description="Build the GUI's assets.")
    parser.add_argument("--check", action="store_true", help="build nothing; 3: out of date")
    if parser.parse_args().check:
        raise SystemExit(0 if is_built() else 3)
    try:
        if build():
            sys.stdout.write(f"built {STATIC}\n")
    except BuildFailed as error:
        sys.stderr.write(f"ERROR: {error}\n")
        raise SystemExit(1) from error


def build() -> bool:
    """Bring the static directory up to date; tells whether there was anything to do."""
    if not _is_installed():
        _install()
    if is_built():
        return False
    _write()
    return True


def is_built() -> bool:
    """Tell whether the packages and the static directory are those of the present sources."""
    manifest = STATIC / "manifest.json"
    if not (_is_installed() and manifest.is_file()):
        return False
    return bool(json.loads(manifest.read_text())["inputs"] == _hash_of_inputs())


def _hash_of_inputs() -> str:
    files = [*_sources(), *sorted(ASSETS.glob("*.py")), ASSETS / "package-lock.json"]
    return _hash(b"".join(path.read_bytes() for path in files))


def _sources() -> Iterator[Path]:
    """Yield what may name a class of the style sheet."""
    for pattern in ("src/*", "../templates/*.html", "../*.py"):
        yield from sorted(ASSETS.glob(pattern))


def _lock_hash() -> str:
    return _hash((ASSETS / "package-lock.json").read_bytes())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_installed() -> bool:
    return INSTALLED.is_file() and INSTALLED.read_text() == _lock_hash()


def _install() -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=ASSETS, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildFailed(f"npm cannot be run: {error.strerror}.") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        reason = lines[0].removeprefix("npm error ") if lines else f"exit code {done.returncode}"
        raise BuildFailed(f"npm cannot get the pinned packages: {reason}")
    INSTALLED.write_text(_lock_hash())


def _write() -> None:
    fresh = STATIC.with_name("static.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    used = words_of("\n".join(path.read_text() for path in _sources()))
    files = {name: _write_bundle(fresh, name, _parts(name, used)) for name in BUNDLES}
    (fresh / "icons.json").write_text(json.dumps(_icons(), separators=(",", ":")))
    manifest = {"inputs": _hash_of_inputs(), "files": files, "packages": _packages()}
    (fresh / "manifest.json").write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(STATIC, ignore_errors=True)
    fresh.rename(STATIC)


def _parts(name: str, used: set[str]) -> Iterator[str]:
    """Yield the texts that a file is made of; of Tabler's styles those that a page can use."""
    for part in BUNDLES[name]:
        if part.startswith("src/"):
            yield (ASSETS / part).read_text()
        else:
            text = (MODULES / part).read_text()
            yield trim_css(text, used) if part == TABLER else text


def _packages() -> list[dict[str, str]]:
    """Return name, version and licence of each package that pages use, as the lock says."""
    lock = json.loads((ASSETS / "package-lock.json").read_text())["packages"]
    return [
        {"name": name, "version": one["version"], "licence": one["license"]}
        for name in sorted(lock[""]["dependencies"])
        for one in [lock[f"node_modules/{name}"]]
    ]


def _write_bundle(directory: Path, name: str, texts: Iterator[str]) -> str:
    """Write one file and its compressed twin; returns the name that it is served under."""
    content = SOURCE_MAP.sub("", "\n".join(texts)).encode()
    stem, _, suffix = name.rpartition(".")
    served = f"{stem}.{_hash(content)[:HASH_DIGITS]}.{suffix}"
    (directory / served).write_bytes(content)
    (directory / f"{served}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    return served


def _icons() -> dict[str, str]:
    """Return what stands inside each outline icon's `<svg>`, by the icon's name."""
    found = {}
    for path in sorted((MODULES / "@tabler/icons/icons/outline").glob("*.svg")):
        text = re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.DOTALL)
        inner = text.partition(">")[2].rpartition("</svg>")[0]
        inner = inner.replace('<path stroke="none" d="M0 0h24v24H0z" fill="none" />', "")
        found[path.stem] = re.sub(r"\s*\n\s*", "", inner).strip()
    return found


if __name__ == "__main__":
    main()
