"""The wire formats that the HTTP door speaks, by the path of their URL.

The one of Stalwart is `stalwart-v1`. The IETF draft (draft-degennaro-mta-hooks) speaks another one,
which still moves: its codec will stand here beside it, at a path of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nodeagent.policy.codecs.hook_request import HttpCodec
from nodeagent.policy.codecs.stalwart import StalwartCodec


def by_path(*codecs: HttpCodec) -> Mapping[str, HttpCodec]:
    """Return the codecs by their paths; raises ValueError when two want the same one."""
    found = {codec.path: codec for codec in codecs}
    if len(found) != len(codecs):
        raise ValueError("two codecs have the same path")
    return MappingProxyType(found)


HTTP_CODECS: Final = by_path(StalwartCodec())
