"""The templates are compiled at the start, once for all languages, and speak each of them."""

from __future__ import annotations

import pytest
from jinja2 import DictLoader

from controlplane.gui.language import LANGUAGES
from controlplane.gui.templating import compile_templates, environment


def test_all_templates_are_compiled_at_the_start() -> None:
    """No view waits for it, in no language."""
    compile_templates()
    for language in LANGUAGES:
        made = environment(language)
        assert made.cache is not None
        assert {name for _, name in made.cache} == set(made.list_templates())


def test_the_languages_share_what_is_compiled() -> None:
    """The second one costs little."""
    english, german = (environment(one).get_template("events.html") for one in ("en", "de"))
    assert english is not german
    assert english.root_render_func.__code__ is german.root_render_func.__code__


@pytest.mark.parametrize(("language", "written"), [("en", "1,234.5 Time"), ("de", "1.234,5 Zeit")])
def test_what_is_shared_holds_no_language(language: str, written: str) -> None:
    """Not even where a filter or a message has a constant."""
    source = DictLoader({"constant.html": '{{ 1234.5 | number }} {{ "Time" | message }}'})
    made = environment(language).overlay(loader=source)
    assert made.get_template("constant.html").render() == written
