"""How every program of ours writes its log: one line of key=value an event, on standard error.

Tracebacks are Python's plain ones: the pretty ones show local variables, which hold secrets, and
take seconds to format.
"""

from __future__ import annotations

import sys

import structlog


def configure_log() -> None:
    """Set the format; each program calls this once, before anything else."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
