"""The templates' environment, one a language: escaping on, undefined names refused, our filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Final, cast

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.bccache import Bucket
from jinja2.runtime import Context
from markupsafe import Markup, escape

from controlplane.gui.language import LANGUAGES, UNKNOWN, Localizer, catalogue
from controlplane.gui.sentences import translate_sentence
from controlplane.gui.static_files import load_assets

TEMPLATES: Final = Path(__file__).parent / "templates"
MACROS: Final = "macros.html"


class _CompiledOnce(BytecodeCache):
    """Keeps each template's code in memory: the languages differ in what it calls alone."""

    def __init__(self) -> None:
        self._found: dict[str, CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code that another language has compiled already."""
        bucket.code = self._found.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        assert bucket.code is not None  # noqa: S101 - Jinja has just compiled it
        self._found[bucket.key] = bucket.code


_COMPILED: Final = _CompiledOnce()


def compile_templates() -> None:
    """Do at the start what the first view of each page would wait for."""
    for language in LANGUAGES:
        made = environment(language)
        for name in made.list_templates():
            made.get_template(name)


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """Render a whole template; `values` holds the viewer's `localizer`."""
    return _environment_of(values).get_template(template).render(values)


def render_block(template: str, block: str, values: Mapping[str, Any]) -> str:
    """Render one `{% block %}` of a template: what stands outside of it is not run."""
    found = _environment_of(values).get_template(template)
    return "".join(found.blocks[block](found.new_context(dict(values))))


def _environment_of(values: Mapping[str, Any]) -> Environment:
    localizer = values["localizer"]
    assert isinstance(localizer, Localizer)  # noqa: S101 - whoever renders puts it there
    return environment(localizer.language)


@cache
def environment(language: str) -> Environment:
    """Return the environment of one language."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
    )
    made.add_extension("jinja2.ext.i18n")
    found = catalogue(language)
    made.install_gettext_callables(  # type: ignore[attr-defined]  # added by the extension
        found.gettext, found.ngettext, newstyle=True
    )
    localizer = Localizer(language)
    plural = cast("Callable[..., str]", made.globals["ngettext"])
    made.globals["ngettext"] = _counted(plural, localizer)
    for write in (
        localizer.number,
        localizer.percent,
        localizer.bytes,
        localizer.duration,
        localizer.all_of,
    ):
        made.filters[write.__name__] = _when_shown(write)
    made.filters["message"] = _when_shown(found.gettext)  # `_()` would fill in values
    made.filters["sentence"] = _when_shown(lambda text: translate_sentence(localizer, text))
    made.filters["sentences"] = _when_shown(
        lambda texts: " ".join(translate_sentence(localizer, text) for text in texts)
    )
    assets = load_assets()
    made.globals.update(asset=assets.url, icon=assets.icon, moment=moment, day=day, age=age)
    made.globals["ui"] = made.get_template(MACROS).module
    return made


def _when_shown(write: Callable[[Any], str]) -> Callable[[Context, Any], str]:
    """Return a filter that also waits with a constant: no language is compiled into the code."""

    @pass_context
    def filtered(context: Context, value: Any) -> str:
        del context
        return write(value)

    return filtered


def _counted(plural: Callable[..., str], localizer: Localizer) -> Callable[..., str]:
    """Return `ngettext` that writes its number as the language does, like every other number."""

    @pass_context
    def ngettext(context: Context, one: str, many: str, num: int, **values: Any) -> str:
        return plural(context, one, many, num, **{"num": localizer.number(num), **values})

    return ngettext


@pass_context
def moment(context: Context, at: Any) -> Markup:
    """Return a moment in the viewer's time zone, as `<time>`."""
    return _time(context, at, context["localizer"].moment(at))


@pass_context
def day(context: Context, at: Any) -> Markup:
    """Return a day in the viewer's time zone, as `<time>`."""
    return _time(context, at, context["localizer"].day(at))


@pass_context
def age(context: Context, at: Any) -> Markup:
    """Return how long ago a moment is, as `<time>` that counts on in the browser."""
    if at is None:
        return escape(UNKNOWN)
    localizer: Localizer = context["localizer"]
    return Markup('<time data-age datetime="{}" title="{}">{}</time>').format(
        localizer.iso(at), localizer.moment(at), localizer.age(at)
    )


def _time(context: Context, at: Any, words: str) -> Markup:
    if at is None:
        return escape(UNKNOWN)
    return Markup('<time datetime="{}">{}</time>').format(context["localizer"].iso(at), words)
