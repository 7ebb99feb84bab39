"""Languages: everything is translated, nothing is said in a template, numbers follow the locale."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.catalog import Catalog

from controlplane.gui import messages
from controlplane.gui.language import LANGUAGES, Localizer, catalogue, find_zone
from controlplane.gui.sentences import PLACE, translate_sentence
from controlplane.gui.templating import TEMPLATES

DE, EN = Localizer("de", ZoneInfo("Europe/Berlin")), Localizer("en", ZoneInfo("Europe/Berlin"))
NAMES = {"Mail-Relay HA"}
SHOWN_ATTRIBUTES = r'(?:aria-label|title|placeholder|alt)="([^"{]*[A-Za-z][^"{]*)"'


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_every_message_is_translated(language: str) -> None:
    """None is missing, empty, outdated, or loses a value; `messages` updates the catalogue."""
    assert messages.problems_of(language) == []


def words_in(template: str) -> list[str]:
    """Return what a template says by itself, beside names that are the same everywhere."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", template, flags=re.DOTALL)
    shown = re.findall(SHOWN_ATTRIBUTES, text)
    shown += re.sub(r'<[^>]*>|[\w-]+="[^"]*"', "\n", text).splitlines()
    return [
        words.strip()
        for words in shown
        if re.search(r"[A-Za-z]{2}", words.strip(" ·")) and words.strip(" ·") not in NAMES
    ]


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: str(path.name))
def test_templates_say_nothing_by_themselves(path: Path) -> None:
    """Every word goes through the catalogue."""
    assert words_in(path.read_text()) == []


@pytest.mark.parametrize(
    "template", ["<p>Hello</p>", '<a title="Hello">{{ x }}</a>', "{{ x }} days", "<b>{% if x %}No"]
)
def test_words_in_a_template_are_found(template: str) -> None:
    """A check that cannot fail would keep nothing."""
    assert words_in(template)


def test_what_is_wrong_with_a_catalogue_is_found() -> None:
    """An empty translation, one that lost a value, and one that was only guessed."""
    catalog = Catalog(locale="de")
    for source, translation in (("a %(b)s", "c"), ("d", ""), ("%(e)s", "%(e)s")):
        catalog.add(source, translation)
    found = [one for message in catalog if message.id for one in messages._problems(message)]
    assert found == ["'a %(b)s' has other places for values", "'d' is not translated"]


def test_numbers_sizes_and_times_follow_the_language() -> None:
    """Separators, order and units; what is unknown is a dash."""
    assert (EN.number(1234.5), DE.number(1234.5)) == ("1,234.5", "1.234,5")
    assert (EN.bytes(1_500_000), DE.bytes(1_500_000)) == ("1.5 MB", "1,5 MB")
    assert (EN.bytes(999), EN.bytes(0), EN.bytes(1e15)) == ("999 byte", "0 byte", "1,000 TB")
    assert (EN.duration(7300), DE.duration(7300)) == ("2 hrs", "2 Std.")
    assert (EN.duration(59.9), EN.duration(-1)) == ("59 secs", "0 secs")
    assert (EN.percent(0.5), DE.percent(0.5)) == ("50%", "50\N{NO-BREAK SPACE}%")
    assert EN.moment(0) == "1 Jan 1970, 01:00:00"
    assert DE.moment(0) == "01.01.1970, 01:00:00"
    assert EN.day(0) == "1 Jan 1970"
    for write in (EN.number, EN.bytes, EN.duration, EN.percent, EN.moment, EN.day):
        assert write(None) == "\N{EN DASH}"


@pytest.mark.parametrize("name", ["../../etc/passwd", "\0", "Mars/Olympus", "", None, "x" * 5000])
def test_an_unknown_time_zone_is_utc(name: str | None) -> None:
    """It comes from a cookie, so it may be anything."""
    assert EN.zone != find_zone(name)
    assert str(find_zone(name)) == "UTC"


@pytest.mark.parametrize(
    ("sentence", "translation"),
    [
        ("The two new passwords differ.", "Die beiden neuen Passwörter sind verschieden."),
        (
            "Too many failed logins; try again in 17 seconds.",
            "Zu viele Fehlversuche; in 17 Sekunden erneut versuchen.",
        ),
        ("There is nothing at /%s%(x)s.", "Unter /%s%(x)s gibt es nichts."),
        ("Nobody has translated this.", "Nobody has translated this."),
    ],
)
def test_refusals_are_found_in_the_catalogue(sentence: str, translation: str) -> None:
    """Also with values in them, whatever these are."""
    assert translate_sentence(DE, sentence) == translation
    assert translate_sentence(EN, sentence) == sentence


PATTERNS = sorted(
    source
    for source in getattr(catalogue("de"), "_catalog")  # noqa: B009 - as `sentences` reads it
    if isinstance(source, str) and PLACE.search(source)
)


@pytest.mark.parametrize("source", PATTERNS)
def test_every_sentence_with_values_is_found_again(source: str) -> None:
    """No other pattern takes it for its own, and each value comes back in its place."""
    values = {name: f"<{name} {number}.>" for number, name in enumerate(PLACE.findall(source))}
    expected = catalogue("de").gettext(source) % values
    assert translate_sentence(DE, source % values) == expected
    assert translate_sentence(EN, source % values) == source % values


@pytest.mark.parametrize("source", ["%(wanted)s wanted, none live", "granted to %(node)s"])
def test_words_are_no_values(source: str) -> None:
    """A sentence whose words another one has values for is itself."""
    assert "none" not in translate_sentence(DE, source % {"wanted": 2, "node": 2})
    assert "granted" not in translate_sentence(DE, source % {"wanted": 2, "node": 2})
