"""Forms described once: filled, posted, refused with everything typed kept, secrets one way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic import Field as ModelField

from controlplane.errors import Invalid
from controlplane.gui.forms import MAX_INPUT, Field, Form, Option, Widget
from controlplane.gui.language import Localizer
from controlplane.gui.templating import environment

FORM = Form(
    (
        Field("name", "User", hint="Password", is_required=True),
        Field("limits.port", "Queue", widget=Widget.NUMBER, attributes={"min": "1"}),
        Field("mode", "Role", widget=Widget.SELECT, options=(Option.of("a"), Option.of("b"))),
        Field("is_on", "Menu", widget=Widget.CHECKBOX),
        Field(
            "places", "Nodes", widget=Widget.CHECKBOXES, options=(Option.of("x"), Option.of("y"))
        ),
        Field("text", "Time", widget=Widget.TEXTAREA),
        Field("password", "Password", widget=Widget.PASSWORD),
        Field("key", "System", widget=Widget.FILE_TEXT, is_secret=True),
    )
)
TYPED = {
    "name": ['<"a&b">'],
    "limits.port": ["99999"],
    "mode": ["b"],
    "is_on": ["on"],
    "places": ["y"],
    "text": ["</textarea><script>"],
    "password": ["sEcret-1"],
    "key": ["sEcret-2"],
    "unknown": ["z"],
}


class Limits(BaseModel):
    """Nested values."""

    port: int | None = ModelField(default=None, le=65535)


class Thing(BaseModel):
    """What the form describes."""

    name: str
    limits: Limits
    mode: str
    is_on: bool
    places: list[str]
    text: str | None
    password: str
    key: str


def _shown(form: Any, **values: Any) -> str:
    template = environment("en").from_string("{{ ui.form(form, '/x', csrf) }}")
    return template.render(form=form, csrf="", localizer=Localizer("en"), **values)


def test_what_was_typed_stays_beside_its_error() -> None:
    """Every field keeps its value, whatever it is, and says what is wrong with it."""
    error = Invalid("No.", {"name": "Bad name.", "limits.port": "Bad port.", "other": "Also bad."})
    page = _shown(FORM.posted(TYPED).refused(error))
    assert 'value="&lt;&#34;a&amp;b&#34;&gt;"' in page
    assert 'value="99999"' in page
    assert '<option value="b" selected>' in page
    assert page.count(" checked>") == 2
    assert "&lt;/textarea&gt;&lt;script&gt;" in page
    for field, words in (("f-name", "Bad name."), ("f-limits.port", "Bad port.")):
        assert f'<p class="field-error" id="{field}-error">{words}</p>' in page
        assert f'aria-describedby="{field}-error' in page
    assert "No. Also bad." in page


def test_a_secret_never_comes_back() -> None:
    """Not what was typed, and not what is stored."""
    typed = _shown(FORM.posted(TYPED).refused(Invalid("No.", {"name": "Bad."})))
    stored = _shown(FORM.filled({"password": "sEcret-3", "key": "sEcret-4"}))
    assert "sEcret" not in typed + stored


def test_a_form_shows_the_present_state() -> None:
    """Nested values too; ticks and choices as they are."""
    form = FORM.filled(
        {"name": "n", "limits": {"port": 25}, "mode": "a", "is_on": False, "places": ["x", "y"]}
    )
    assert (form.text("name"), form.text("limits.port")) == ("n", "25")
    assert (form.has("is_on"), form.has("places", "x"), form.has("places", "z")) == (
        False,
        True,
        False,
    )
    assert '<option value="a" selected>' in _shown(form)


def test_a_model_is_built_of_what_was_typed() -> None:
    """Spaces around words go, an empty field is no value, a secret stays as it was typed."""
    typed = {**TYPED, "limits.port": [" 25 "], "text": ["  "], "password": [" p "]}
    thing = FORM.posted(typed).build(Thing)
    assert thing.limits.port == 25
    assert (thing.is_on, thing.places, thing.text) == (True, ["y"], None)
    assert thing.password == " p "
    assert FORM.posted({}).data()["is_on"] is False


def test_a_model_refuses_beside_the_field() -> None:
    """Pydantic's error becomes a sentence under the field's own name."""
    with pytest.raises(Invalid) as refused:
        FORM.posted(TYPED).build(Thing)
    assert list(refused.value.fields) == ["limits.port"]
    assert FORM.posted(TYPED).refused(refused.value).errors["limits.port"].endswith(".")


def test_a_value_that_nobody_types_is_refused() -> None:
    """A field is no place for a megabyte."""
    with pytest.raises(Invalid, match="too long"):
        FORM.posted({"name": ["x" * (MAX_INPUT + 1)]})


def test_a_sentence_stands_once() -> None:
    """What is said beside a field is not said above it again."""
    form = FORM.posted(TYPED).refused(Invalid("Bad name.", {"name": "Bad name."}))
    assert form.error is None
    assert _shown(form).count("Bad name.") == 1


def test_labels_that_are_values_may_hold_anything() -> None:
    """A node called after a message, or with a per cent sign, is shown as it is."""
    form = FORM.filled().with_options("mode", (Option.of("Mail"), Option.of("100%(x)s %")))
    template = environment("de").from_string("{{ ui.form(form, '/x', '') }}")
    page = template.render(form=form, localizer=Localizer("de"))
    assert "100%(x)s %" in page
    assert ">Passwort<" in page


VALUES = st.text(max_size=20)


@given(
    st.fixed_dictionaries(
        {
            "name": VALUES,
            "limits": st.fixed_dictionaries({"port": st.none() | st.integers(0, 65535)}),
            "mode": st.sampled_from(("a", "b")),
            "is_on": st.booleans(),
            "places": st.lists(st.sampled_from(("x", "y")), unique=True),
            "text": st.none() | VALUES,
        }
    )
)
def test_what_a_form_shows_is_what_it_sends_back(state: dict[str, Any]) -> None:
    """Saving without a change changes nothing but the space around words."""
    filled = FORM.filled(state)
    sent = FORM.posted(filled.values).data()
    for name in ("name", "text"):
        assert sent[name] == ((state[name] or "").strip() or None)
    port = state["limits"]["port"]
    assert sent["limits"] == {"port": None if port is None else str(port)}
    assert {name: sent[name] for name in ("mode", "is_on", "places")} == {
        name: state[name] for name in ("mode", "is_on", "places")
    }


@given(VALUES, VALUES)
def test_no_secret_is_shown_whatever_it_is(password: str, key: str) -> None:
    """Neither of the state nor of what was typed; what was typed is still what is built of."""
    for form in (
        FORM.filled({"password": password, "key": key}),
        FORM.posted({"password": [password], "key": [key]}),
    ):
        assert [form.shown(one) for one in FORM.fields if one.is_one_way] == ["", ""]
        assert (form.data()["password"], form.data()["key"]) == (password, key)


def test_a_value_may_be_as_long_as_is_said() -> None:
    """All that was sent under one name counts together."""
    assert FORM.posted({"name": ["x" * MAX_INPUT]}).text("name") == "x" * MAX_INPUT
    with pytest.raises(Invalid) as refused:
        FORM.posted({"places": ["x" * MAX_INPUT, "y"]})
    assert refused.value.fields == {"places": "This value is too long."}


def test_a_field_that_was_not_sent_is_empty() -> None:
    """Not the state's: a box that is not ticked sends nothing, and a script may leave out any."""
    form = FORM.posted({})
    assert [form.text(one.name) for one in FORM.fields] == [""] * len(FORM.fields)
    with pytest.raises(Invalid) as refused:
        form.required("name")
    assert refused.value.fields == {"name": "Fill in this field."}
    assert FORM.posted({"name": ["n"]}).required("name") == "n"


@pytest.mark.parametrize(
    ("detail", "fields", "above", "beside"),
    [
        ("No.", {}, "No.", {}),
        ("No.", {"name": "Bad."}, "No.", {"name": "Bad."}),
        ("Bad.", {"name": "Bad."}, None, {"name": "Bad."}),
        ("No.", {"other": "Odd."}, "No. Odd.", {}),
        ("Odd.", {"other": "Odd."}, "Odd.", {}),
        ("Bad.", {"name": "Bad.", "other": "Odd."}, "Odd.", {"name": "Bad."}),
    ],
)
def test_every_sentence_of_a_refusal_is_shown_once(
    detail: str, fields: dict[str, str], above: str | None, beside: dict[str, str]
) -> None:
    """Beside its field, or above all where the form has no such field."""
    form = FORM.posted(TYPED).refused(Invalid(detail, fields))
    assert (form.error, form.errors) == (above, beside)


def test_options_of_the_state_are_those_of_one_field() -> None:
    """The others keep theirs, and nothing that was typed is lost."""
    typed = FORM.posted(TYPED)
    form = typed.with_options("mode", (Option.of("c", "C"),))
    options = {one.name: [choice.value for choice in one.options] for one in form.form.fields}
    assert (options["mode"], options["places"]) == (["c"], ["x", "y"])
    assert form.values == typed.values
    assert FORM.fields[2].options == (Option.of("a"), Option.of("b"))
