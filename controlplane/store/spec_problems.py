"""Asks the validation what is wrong with a spec, and names the fields as callers know them.

The validation counts list members ("nodes.0.address"); an administrator knows them by their keys
("nodes.node-a.address"), and whoever changes one node knows its fields alone ("address").
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.core.spec import ClusterSpec
from controlplane.core.validation import validate
from controlplane.store.nouns import ALL_NOUNS, Noun

_NOUNS: Final = {noun.field: noun for noun in ALL_NOUNS}


def find_problems(spec: ClusterSpec) -> dict[str, str]:
    """Return one sentence per field at fault, list members named by their keys."""
    return {_by_key(spec, problem.field): problem.sentence for problem in validate(spec)}


def new_problems(
    before: ClusterSpec, after: ClusterSpec, noun: Noun[Any] | None = None, key: str = ""
) -> dict[str, str]:
    """Return the problems that `after` has and `before` has not.

    Those of the item `key` of `noun` are named by its own fields.
    """
    known = set(find_problems(before).items())
    found = [one for one in find_problems(after).items() if one not in known]
    return {_within(field, noun, key): sentence for field, sentence in found}


def index_problems(spec: ClusterSpec, noun: Noun[Any]) -> dict[int, str]:
    """Return the first problem of each item of one list, by its place in the list."""
    found: dict[int, str] = {}
    for field, sentence in validate(spec):
        head, _, rest = field.partition(".")
        index = rest.partition(".")[0]
        if head == noun.field and index.isdigit():
            found.setdefault(int(index), sentence)
    return found


def _by_key(spec: ClusterSpec, field: str) -> str:
    head, _, rest = field.partition(".")
    noun = _NOUNS.get(head)
    index, _, leaf = rest.partition(".")
    if noun is None or not index.isdigit():
        return field
    key = noun.key_of(getattr(spec, head)[int(index)])
    return ".".join(part for part in (head, key, leaf) if part)


def _within(field: str, noun: Noun[Any] | None, key: str) -> str:
    if noun is None:
        return field
    item = f"{noun.field}.{key}"
    if field == item:
        return noun.key
    return field.removeprefix(f"{item}.")
