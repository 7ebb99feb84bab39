"""Where the pages of the mail policy's lists are: each list has paths of its own."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request

from controlplane.api.mail_security.item_routes import ItemApi
from controlplane.errors import Invalid
from controlplane.gui.policy_lists import PolicyList


class Name(StrEnum):
    """The lists that have pages here."""

    LISTS = "lists"
    WORDS = "words"
    RATES = "rates"


def _name_of(request: Request) -> Name:
    return Name(request.url.path.split("/")[2])


NameOfPath = Annotated[Name, Depends(_name_of)]
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def list_pages(router: APIRouter, method: str, tail: str = "") -> Callable[[_Endpoint], _Endpoint]:
    """Add an endpoint below the path of each list: a page that is linked has a path of its own."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        for one in Name:
            router.add_api_route(f"/policy/{one.value}{tail}", endpoint, methods=[method])
        return endpoint

    return add


def part_of(shown: PolicyList, name: str) -> ItemApi:
    """Return one of the lists that share a page; raises Invalid."""
    if name not in shown.parts:
        raise Invalid("Choose a list.", {"listing": "Choose a list."})
    return shown.parts[name]
