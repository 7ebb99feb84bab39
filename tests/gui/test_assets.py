"""What browsers load is built once, and anew when a source or npm's lock file has changed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from controlplane.errors import SetupFailed
from controlplane.gui.assets import build as assets
from controlplane.gui.assets.trim_css import trim_css, words_of
from controlplane.gui.static_files import load_assets


def test_the_build_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it made is what the control plane loads."""
    monkeypatch.setattr(assets, "STATIC", tmp_path / "static")
    assert [assets.build(), assets.build()] == [True, False]
    built = load_assets(tmp_path / "static")
    assert built.url("base.css").startswith("/static/base.")
    assert str(built.icon("server-2")).startswith('<svg class="icon"')


def test_styles_that_no_page_can_use_are_left_out() -> None:
    """A rule goes with its last selector, a group with its last rule; the licence stays."""
    css = """@charset "UTF-8";/*! licence *//* not this */:root{a:1}.b,.gone{c:d}.b .gone{e:f}
        .b:not(.x,.b){g:h}@media print{.gone{i:j}}@media (x){.b{k:l}}@keyframes m{0%{n:o}}"""
    assert trim_css(css, words_of('<p class="b x-{{ y }}">')) == (
        "/*! licence */:root{a:1}.b{c:d}.b:not(.x,.b){g:h}@media (x){.b{k:l}}@keyframes m{0%{n:o}}"
    )


def test_properties_that_no_rule_asks_for_are_left_out() -> None:
    """Nor what they alone ask for; what our sources name stays, and quoted text is one value."""
    css = """:root{--asked:1;--far:2;--near:var(--far);--gone:var(--gone-too);--gone-too:3;
        --named:4;--text:"a;b";--last:5}.b{c:var(--asked);d:var( --near,6);e:var(--text)}
        @media (x){:root{--none:7}}"""
    trimmed = trim_css(css, words_of('b element.style["--named"]'))
    assert re.sub(r"\s", "", trimmed) == (
        ':root{--asked:1;--far:2;--near:var(--far);--named:4;--text:"a;b";}'
        ".b{c:var(--asked);d:var(--near,6);e:var(--text)}"
    )


def test_every_class_and_property_that_is_used_is_still_there() -> None:
    """Of what Tabler has: each class in a template, each property of the root that is asked for."""
    tabler = (assets.MODULES / assets.TABLER).read_text()
    sheet = (assets.STATIC / load_assets().names["base.css"]).read_text()
    templates = (assets.ASSETS.parent / "templates").glob("*.html")
    attributes = re.findall(r'class="([^"]*)"', "\n".join(one.read_text() for one in templates))
    used = words_of("\n".join(attributes))
    assert {"btn-primary", "form-control", "table-responsive"} <= used & _classes(tabler)
    assert used & _classes(tabler) <= _classes(sheet)
    asked = set(re.findall(r"var\((--[\w-]+)", sheet))
    assert "--tblr-body-color" in asked & _properties_of_root(tabler)
    assert asked & _properties_of_root(tabler) <= _properties_of_root(sheet)


def _classes(css: str) -> set[str]:
    return set(re.findall(r"\.([A-Za-z][\w-]*)(?=[^{}]*\{)", css))


def _properties_of_root(css: str) -> set[str]:
    bodies = re.findall(r":root[^{}]*\{([^}]*)\}", css)
    return set(re.findall(r"(?:^|[;\s])(--[\w-]+):", "\n".join(bodies)))


@pytest.mark.parametrize("name", ["package-lock.json", "src/base.js", "build.py"])
def test_a_changed_source_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever goes into the files, their manifest knows it by its hash."""
    assert assets.is_built()
    copy = tmp_path / "assets"
    (copy / "src").mkdir(parents=True)
    for path in (*assets.ASSETS.glob("src/*"), *assets.ASSETS.glob("*.*")):
        target = copy / path.relative_to(assets.ASSETS)
        target.write_bytes(path.read_bytes())
    (copy / name).write_text("changed")
    monkeypatch.setattr(assets, "ASSETS", copy)
    assert not assets.is_built()


def test_without_npm_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback for whoever has not installed it."""
    monkeypatch.setattr(assets, "INSTALLED", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(assets.BuildFailed, match=r"npm cannot be run: No such file or directory\."):
        assets.build()


@pytest.mark.parametrize("content", [None, "{", "{}", '{"files": {"base.css": "gone.css"}}'])
def test_missing_or_damaged_files_are_one_sentence(tmp_path: Path, content: str | None) -> None:
    """The start says what to do."""
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
        (tmp_path / "icons.json").write_text("{}")
    with pytest.raises(SetupFailed, match="`make assets` builds them"):
        load_assets(tmp_path)


def test_the_lock_file_pins_all_and_names_no_address() -> None:
    """What is installed is what was tested, wherever it comes from."""
    lock = json.loads((assets.ASSETS / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages
    for name, one in packages.items():
        assert one["integrity"].startswith("sha512-"), name
        assert "resolved" not in one, name
    wanted = json.loads((assets.ASSETS / "package.json").read_text())
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
