"""The last tick as a file, for `relay-agent status` and `relay-agent explain`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from nodeagent.adapters.clock import boot_time_s
from nodeagent.core.decision import Plan
from nodeagent.core.observation import Observation
from nodeagent.errors import Unreachable

STALE_AFTER_S: Final = 10.0


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def write_status(run_directory: Path, observation: Observation, plan: Plan) -> None:
    """Write the tick's observation and plan whole; /run is memory, so this costs no disk."""
    content = {
        "at_s": boot_time_s(),
        "role": observation.role,
        "observation": asdict(observation),
        "rule": plan.rule,
        "comment": plan.comment,
        "renew": plan.renew,
        "plan": [{"action": type(action).__name__, **asdict(action)} for action in plan.actions],
    }
    temporary = run_directory / "status.json.new"
    temporary.write_text(json.dumps(content, default=_plain))
    temporary.rename(run_directory / "status.json")


def read_status(run_directory: Path) -> dict[str, Any]:
    """Return the last tick with its age as `age_s`; raises `Unreachable` without a live agent."""
    try:
        content: dict[str, Any] = json.loads((run_directory / "status.json").read_text())
    except (OSError, ValueError) as error:
        raise Unreachable("The agent does not run on this host.") from error
    content["age_s"] = boot_time_s() - content.pop("at_s")
    if content["age_s"] > STALE_AFTER_S:
        raise Unreachable(f"The agent has not ticked for {content['age_s']:.0f} s.")
    return content
