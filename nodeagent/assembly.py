"""Puts the agent together: settings in, a ready `Agent` out; the only place that knows every class."""

from __future__ import annotations

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.guard_client import GuardClient
from nodeagent.adapters.host import Host
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.mirrors import Mirrors
from nodeagent.adapters.peers import Peers
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.vip import watch_addresses
from nodeagent.core.ports import Ports
from nodeagent.execute import Executor
from nodeagent.loop import Agent
from nodeagent.observe import Sources
from nodeagent.settings import AgentSettings
