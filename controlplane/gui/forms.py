"""Forms described once: their fields, filled from the state or from what was typed, with errors.

A page declares a `Form`; `filled()` shows the present state, `posted()` what a browser sent, and
`refused()` the same with one sentence beside each field at fault, so that nothing typed is lost.
Secrets go one way: what was typed into a secret field is never sent back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends
from pydantic import BaseModel, ValidationError

from controlplane.api.error_handlers import field_sentences
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.language import N_
from controlplane.gui.protection import read_form

Model = TypeVar("Model", bound=BaseModel)
Posted = Annotated[dict[str, list[str]], Depends(read_form)]
"""Give an endpoint the fields of the form that was sent; its token was checked before."""

MAX_INPUT: Final = 200_000
TICKED: Final = "on"


class Widget(StrEnum):
    """How a field is shown, and what it sends."""

    TEXT = "text"
    PASSWORD = "password"  # noqa: S105 - a widget
    NUMBER = "number"
    TEXTAREA = "textarea"
    FILE_TEXT = "file-text"
    """A text area that a chosen file fills; what is sent is the text."""
    SELECT = "select"
    CHECKBOX = "checkbox"
    CHECKBOXES = "checkboxes"
    """Any of the options; sends a list."""


@dataclass(frozen=True)
class Option:
    """One choice; `of()` makes one whose label is no message but a value of somebody's."""

    value: str
    label: str
    is_message: bool = True

    @classmethod
    def of(cls, value: str, label: str | None = None) -> Option:
        """Return a choice that is shown as it is."""
        return cls(value, value if label is None else label, is_message=False)


ANY: Final = Option("", N_("Any"))
"""The choice that leaves a filter out."""


@dataclass(frozen=True)
class Field:
    """One input: `label` and `hint` are messages, the hint is one line of explanation."""

    name: str
    label: str
    hint: str = ""
    widget: Widget = Widget.TEXT
    options: tuple[Option, ...] = ()
    is_required: bool = False
    is_secret: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    """More attributes of the input: `autocomplete`, `min`, `placeholder`."""

    @property
    def is_one_way(self) -> bool:
        """Tell whether what is typed is never shown again."""
        return self.is_secret or self.widget is Widget.PASSWORD


@dataclass(frozen=True)
class Form:
    """The fields of one form in their order, and the word on its button."""

    fields: tuple[Field, ...]
    submit: str = N_("Save")

    def filled(self, state: BaseModel | Mapping[str, Any] | None = None) -> FilledForm:
        """Return the form showing `state`; a dot in a field's name leads into nested values."""
        values = state.model_dump(mode="json") if isinstance(state, BaseModel) else (state or {})
        return FilledForm(
            self, {one.name: _shown(_look_up(values, one.name)) for one in self.fields}
        )

    def posted(self, posted: Mapping[str, list[str]]) -> FilledForm:
        """Return the form as it was typed; raises Invalid for what no person types."""
        values = {one.name: list(posted.get(one.name, [])) for one in self.fields}
        for name, sent in values.items():
            if sum(map(len, sent)) > MAX_INPUT:
                raise Invalid("This value is too long.", {name: "This value is too long."})
        return FilledForm(self, values)


@dataclass(frozen=True)
class FilledForm:
    """A form with values and, after a refusal, with errors."""

    form: Form
    values: Mapping[str, list[str]]
    errors: Mapping[str, str] = field(default_factory=dict)
    above: tuple[str, ...] = ()
    """What is wrong with the whole, sentence by sentence; shown above the fields."""

    @property
    def error(self) -> str | None:
        """What is wrong with the whole, as one text."""
        return " ".join(self.above) or None

    def text(self, name: str) -> str:
        """Return the one value of a field, as typed."""
        sent = self.values.get(name) or [""]
        return sent[0]

    def shown(self, one: Field) -> str:
        """Return what the page shows in a field: nothing for a secret."""
        return "" if one.is_one_way else self.text(one.name)

    def has(self, name: str, value: str = TICKED) -> bool:
        """Tell whether a box is ticked or an option chosen."""
        return value in self.values.get(name, [])

    def required(self, name: str) -> str:
        """Return a value that must be there; raises Invalid beside its field."""
        value = self.text(name)
        if not value:
            raise Invalid("Fill in every field of the form.", {name: "Fill in this field."})
        return value

    def data(self) -> dict[str, Any]:
        """Return the values for a model: lists, booleans, None for what was left empty."""
        found: dict[str, Any] = {}
        for one in self.form.fields:
            inner = found
            *outer, last = one.name.split(".")
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = self._value(one)
        return found

    def _value(self, one: Field) -> object:
        if one.widget is Widget.CHECKBOX:
            return self.has(one.name)
        if one.widget is Widget.CHECKBOXES:
            return self.values[one.name]
        text = self.text(one.name)
        return text if one.is_one_way else (text.strip() or None)

    def build(self, model: type[Model], **more: Any) -> Model:
        """Return a model of the values and of `more`; raises Invalid beside the fields at fault."""
        try:
            return model(**{**self.data(), **more})
        except ValidationError as error:
            fields = field_sentences(error.errors())
            raise Invalid("Some values cannot be used; nothing was changed.", fields) from error

    def refused(self, error: ControlPlaneError) -> FilledForm:
        """Return the same form with the error's sentences; what has no field stands above."""
        names = {one.name for one in self.form.fields}
        errors = {name: text for name, text in error.fields.items() if name in names}
        rest = [text for name, text in error.fields.items() if name not in names]
        sentences = [*errors.values(), *rest]
        is_sum = bool(sentences) and all(one in error.detail for one in sentences)
        is_said = is_sum or error.detail in sentences
        return replace(self, errors=errors, above=(*(() if is_said else (error.detail,)), *rest))

    def with_options(self, name: str, options: tuple[Option, ...]) -> FilledForm:
        """Return the same form with the options of a field that come from the state."""
        fields = tuple(
            replace(one, options=options) if one.name == name else one for one in self.form.fields
        )
        return replace(self, form=replace(self.form, fields=fields))


def _look_up(values: Mapping[str, Any], name: str) -> object:
    found: object = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _shown(value: object) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [TICKED]
    if isinstance(value, list | tuple | set | frozenset):
        return [str(one) for one in value]
    return [str(value)]
