"""The hook's own process: both doors, one desk, no rights beyond its own files.

Theory of operation. It starts as root, makes its directories, and becomes a user without rights
before it reads anything of a stranger. Its doors open when there is a policy: until then, and
whenever this process is away, Postfix does what `milter_default_action` says. It works by the
policy on the disk, so neither a control plane nor a network is needed to start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
import uvloop

from nodeagent.adapters.system_user import become, ensure_user, group_id
from nodeagent.core.log_format import configure_log
from nodeagent.errors import AgentError, BrokenState
from nodeagent.policy.codecs.list_headers import Subscriber
from nodeagent.policy.control import ControlServer
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Manifest
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.http_door import HttpHookDoor
from nodeagent.policy.doors.keeper import SmtpKeeper
from nodeagent.policy.doors.listening import CannotListen, try_again
from nodeagent.policy.doors.lists_server import ListsServer
from nodeagent.policy.doors.milter_server import MilterDoor
from nodeagent.policy.engine.plugins import load_plugins
from nodeagent.policy.engine.policy import PolicyProblem, compile_policy
from nodeagent.policy.log_writer import LOG_FILE, LogWriter, open_spool
from nodeagent.policy.model import Envelope, Fired, Message, RuleKind, Verdict
from nodeagent.policy.places import COURIER_SOCKET, LISTS_SOCKET, MILTER_SOCKET, RUN_DIRECTORY
from nodeagent.policy.stored_policy import StoredPolicy
from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync
from nodeagent.settings import AgentSettings, load_settings

log = structlog.get_logger()

MIB: Final = 1024 * 1024
POSTFIX_GROUP: Final = "postfix"
CLOSING_S: Final = 5.0
SOCKET_MODE: Final = 0o660


class Doors:
    """The ways in; they open with the first policy and follow each one after it."""

    def __init__(self, desk: Desk, run_directory: Path) -> None:
        keeper = SmtpKeeper()
        self._desk = desk
        self._milter = MilterDoor(desk)
        self._milter_socket = run_directory / MILTER_SOCKET.name
        self._http = HttpHookDoor(desk, keeper)
        lists = run_directory / LISTS_SOCKET.name
        self._lists = ListsServer(lists, self, keeper, lambda: desk.settings.unsubscribe_url)
        self._closed: dict[Callable[[], Awaitable[None]], str] = {
            self._open_milter: "",
            self._open_lists: "",
        }
        self._opening = asyncio.Lock()
        self._last_subscription = 0  # the highest id in any policy so far
        self._trying: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Return what is not open now and should be, and why, or nothing."""
        return " ".join(filter(None, (*self._closed.values(), self._http.problem)))

    async def follow(self) -> None:
        """Open what is closed and apply the settings; `problem` says what could not be opened.

        That is tried again, later and at the next policy.
        """
        if (policy := self._desk.policy) is not None:
            newest = max(policy.categories.members, default=0)
            self._last_subscription = max(self._last_subscription, newest)
        if not await self._open_sockets() and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(try_again(self._open_sockets))
        await self._http.apply(self._desk.settings)

    async def _open_sockets(self) -> bool:
        """Open what is closed, as far as it can be; tell whether nothing is."""
        async with self._opening:
            for open_one in tuple(self._closed):
                try:
                    await open_one()
                except CannotListen as error:
                    self._closed[open_one] = str(error)
                    log.warning("a door stays closed", reason=str(error))
                else:
                    del self._closed[open_one]
            return not self._closed

    async def _open_milter(self) -> None:
        await self._milter.listen_unix(self._milter_socket, SOCKET_MODE)

    async def _open_lists(self) -> None:
        await self._lists.start(group=None, mode=SOCKET_MODE)

    async def close(self) -> None:
        """Close all; what is being decided gets its answer."""
        if self._trying is not None:
            self._trying.cancel()
        await self._milter.close(CLOSING_S)
        await self._lists.close()
        await self._http.close()

    def find(self, subscription_id: int, category_id: int) -> Subscriber | None:
        """Return the subscriber that a recipient of the list transport stands for."""
        policy = self._desk.policy
        if policy is None:
            return None
        found = policy.categories.find_member(subscription_id, category_id)
        if found is None:
            return None
        compiled, member = found
        return Subscriber(member.address, member.token, compiled.category)

    def has_ended(self, subscription_id: int) -> bool:
        """Tell whether a subscription that is not there was in some policy before."""
        return subscription_id <= self._last_subscription

    def write_dropped(self, envelope: Envelope, message: Message, category_id: int) -> None:
        """Write down on the disk that a copy is discarded; raises `BrokenState`."""
        text = "the subscription had ended before its copy was sent"
        rule = f"category:{category_id}"
        why = Fired(RuleKind.CATEGORY, rule, text, verdict=Verdict.DISCARD)
        self._desk.write_dropped(envelope, message, why)


class Hook:
    """What the courier reaches: reports, and loads what is on the disk."""

    def __init__(self, stored: StoredPolicy, desk: Desk, doors: Doors) -> None:
        self._stored = stored
        self._desk = desk
        self._doors = doors
        self._loaded: Manifest | None = None
        self._problem = ""
        self._loading = asyncio.Lock()

    def report(self) -> PolicySync:
        """Return what is in force and what was counted since."""
        return self._desk.report(" ".join(filter(None, (self._doors.problem, self._problem))))

    def told(self, answer: PolicyAnswer) -> None:
        """Take in what the control plane answered."""
        self._desk.told(answer)

    async def begin(self) -> None:
        """Put in force what the disk has: the newest policy, or the one before if it cannot be."""
        if problem := await self.load():
            await self._load(self._stored.manifest)
            self._problem = problem

    async def load(self) -> str:
        """Put the newest policy on the disk in force; return one sentence why not, or nothing.

        It is compiled in a thread, and the one before it decides until it is ready.
        """
        return await self._load(self._stored.newest)

    async def _load(self, read: Callable[[], Manifest | None]) -> str:
        async with self._loading:
            try:
                manifest = read()
                if manifest is None or manifest == self._loaded:
                    return ""
                policy = await asyncio.to_thread(
                    compile_policy, manifest, self._stored.section, self._desk.policy
                )
            except (BrokenState, PolicyProblem) as error:
                self._problem = str(error)
                log.warning("policy not in force", reason=self._problem)
                return self._problem
            self._desk.use(policy)
            self._problem = " ".join(policy.problems[:5])
            await self._doors.follow()
            self._loaded = manifest
            log.info("policy", revision=policy.revision, problem=self._problem)
            return ""


async def serve(settings: AgentSettings, run_directory: Path = RUN_DIRECTORY) -> None:
    """Serve until SIGTERM."""
    directory = settings.policy_directory
    (directory / LOG_FILE).parent.mkdir(exist_ok=True)
    writer = LogWriter(open_spool(directory / LOG_FILE, settings.policy_log_mib * MIB))
    writer.start()
    plugins = load_plugins()
    for problem in plugins.problems:
        log.warning("plugin", reason=problem)
    desk = Desk(writer, Authenticator(), plugins)
    doors = Doors(desk, run_directory)
    hook = Hook(StoredPolicy(directory / "policy"), desk, doors)
    control = ControlServer(hook, run_directory / COURIER_SOCKET.name)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await hook.begin()
    await control.start()
    await stopping.wait()
    await control.stop()
    await doors.close()
    desk.close()
    writer.stop()


def prepare(settings: AgentSettings, run_directory: Path = RUN_DIRECTORY) -> None:
    """Make the directories and give up root for good; raises `ToolFailed` and OSError."""
    user = ensure_user(settings.policy_user)
    directory, postfix = settings.policy_directory, group_id(POSTFIX_GROUP)
    group = user.gid if postfix is None else postfix
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    _give(directory, 0, user.gid, 0o750)  # so what root writes into has no name of the hook's
    _give(directory / "policy", 0, user.gid, 0o2750)  # the courier's, for the hook to read
    _give((directory / LOG_FILE).parent, user.uid, user.gid, 0o700)
    _give(run_directory, user.uid, group, 0o2755)  # its sockets are the group's: Postfix gets in
    become(user, (group,))


def _give(directory: Path, owner: int, group: int, mode: int) -> None:
    """Make a directory what it has to be."""
    directory.mkdir(exist_ok=True)
    os.chown(directory, owner, group)
    directory.chmod(mode)


def main() -> None:
    """Run the hook; `relay-policy run` is started by systemd, as root."""
    configure_log()
    if sys.argv[1:] != ["run"]:
        sys.exit("relay-policy: it is started as `relay-policy run`.")
    try:
        settings = load_settings()
        if os.geteuid() == 0:
            prepare(settings)
        uvloop.run(serve(settings))
    except (AgentError, OSError) as error:
        sys.exit(f"relay-policy: {error}")


if __name__ == "__main__":
    main()
