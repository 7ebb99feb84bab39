"""Reads what a browser's form sends, in the one encoding that our forms use."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from controlplane.errors import Invalid

MAX_FIELDS: Final = 20


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of an `application/x-www-form-urlencoded` body; raises Invalid."""
    body = await request.body()
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise Invalid("This form cannot be read.") from error
    return dict(pairs)


FormDep = Annotated[dict[str, str], Depends(read_form)]
