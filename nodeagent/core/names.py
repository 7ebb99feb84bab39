"""The names and numbers that the protocol accepts: nodes (which are queues), queue ids, counts.

Kept apart from the wire models, so that the receiver behind sshd(8) starts without them.
"""

from __future__ import annotations

import re
from typing import Final

NODE_NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_BASE51: Final = "[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy]"
_BASE52: Final = "[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz]"
QUEUE_ID_PATTERN: Final = f"^{_BASE52}{{10,16}}z{_BASE51}{{1,16}}$"
STORED_ID_PATTERN: Final = r"^[0-9A-Za-z]{6,64}$"
"""A queue id of either kind; mail from before the relay has a short one."""
LARGEST_NUMBER: Final = 2**31 - 1
"""A count, a key or a sequence number: what every database's integer column takes."""
LARGEST_GENERATION: Final = 2**30
"""Of a lease; so far from a column's end that the control plane can always let it rise."""
_NODE_NAME = re.compile(NODE_NAME_PATTERN)
_QUEUE_ID = re.compile(QUEUE_ID_PATTERN)
_STORED_ID = re.compile(STORED_ID_PATTERN)


def is_node_name(name: str) -> bool:
    """Tell whether `name` may be the name of a node and of its queue."""
    return _NODE_NAME.fullmatch(name) is not None


def is_queue_id(name: str) -> bool:
    """Tell whether a file name is a Postfix long queue id (postconf(5), enable_long_queue_ids)."""
    return _QUEUE_ID.fullmatch(name) is not None


def is_stored_id(name: str) -> bool:
    """Tell whether a file name can be a Postfix queue id, long or short."""
    return _STORED_ID.fullmatch(name) is not None
