"""What the pages tell a reader to type, look for and expect is what the program has."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from controlplane.core.spec import QueueSpec, VrrpSpec
from docs.generate import REPOSITORY, settings_page
from docs.generator.commands import COMMANDS
from nodeagent.core import actions
from nodeagent.core.contract import Timings
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP
from nodeagent.policy.document import PolicySettings

PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs/howto").glob("*.md")),
    *sorted((REPOSITORY / "docs/explanation").glob("*.md")),
]
FAILURE_MODES = REPOSITORY / "docs/explanation/failure-modes.md"
E2E_OF_FAULTS = ("test_agent_faults", "test_partitions", "test_power_loss")
CODE = "\n".join(
    path.read_text()
    for root in ("nodeagent", "controlplane")
    for path in (REPOSITORY / root).rglob("*.py")
)


def page_name(page: Path) -> str:
    """Name a page as a reader does."""
    return str(page.relative_to(REPOSITORY))


def shell_lines(text: str) -> Iterator[list[str]]:
    """Give the words of every command in a page, in its shell blocks and in its sentences."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for inline in re.findall(rf"`((?:{'|'.join(COMMANDS)})\s[^`]+)`", prose):
        if not inline.endswith("..."):
            yield shlex.split(inline)
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        whole = re.sub(r"\$\([^)]*\)", "WORD", block.replace("\\\n", " "))
        for line in whole.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def our_calls(words: list[str]) -> Iterator[list[str]]:
    """Give each of our own programs in a command line, with what stands behind it."""
    for place, word in enumerate(words):
        name = word.rpartition("/")[2]
        if name in COMMANDS and (place == 0 or words[place - 1] in {"--", "do"} or "/" in word):
            yield [name, *words[place + 1 :]]
            return
    if words[:1] == ["runuser"]:
        yield from our_calls(words[words.index("--") + 1 :])


def parse(words: list[str]) -> None:
    """Parse a call of ours as the program does, down to the last option; nothing runs."""
    command: Any = get_command(import_module(COMMANDS[words[0]]).app)
    rest = words[1:]
    while hasattr(command, "commands") and (rest or not command.invoke_without_command):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(command.name, rest)


CALLS = [
    pytest.param(call, id=f"{page.stem}: {' '.join(call)[:60]}")
    for page in PAGES
    for words in shell_lines(page.read_text())
    for call in our_calls(words)
]


def test_the_pages_have_commands_of_each_program() -> None:
    """What finds the commands has not gone blind."""
    assert len(CALLS) > 60
    assert {call.values[0][0] for call in CALLS} == set(COMMANDS)


@pytest.mark.parametrize("call", CALLS)
def test_a_command_of_a_page_is_one_that_the_program_takes(call: list[str]) -> None:
    """Name, arguments and options as the reader copies them."""
    parse(call)


@pytest.mark.parametrize(
    "call",
    ["relayctl nodes frob", "relayctl nodes add a --adress b", "relay-lab up --db oracle"],
)
def test_a_wrong_command_would_be_found(call: str) -> None:
    """An unknown verb, option and choice."""
    with pytest.raises(Exception, match=r"frob|adress|oracle"):
        parse(call.split())


ACTIONS = [name for name in vars(actions) if name[0].isupper()]


def quoted_after(pattern: str, text: str) -> set[str]:
    """Give what stands in backticks after a word, and after commas and `and` behind that."""
    plain = re.sub(r"\s+", " ", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found: set[str] = set()
    for run in re.findall(rf"\b(?:{pattern}) ((?:`[A-Za-z-]+`(?:, | and )?)+)", plain):
        found.update(re.findall(r"`([A-Za-z-]+)`", run))
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_event_of_a_page_is_one_that_is_written(page: Path) -> None:
    """A kind that nobody writes is a search that finds nothing."""
    of_actions = {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() + "-failed" for name in ACTIONS}
    for kind in quoted_after("events?", page.read_text()):
        assert kind in of_actions or f'"{kind}"' in CODE, kind


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_rule_of_a_page_is_in_the_tables(page: Path) -> None:
    """`relay-agent explain` can say it."""
    names = {rule.name for rule in (*OWNERSHIP, *HOUSEKEEPING)}
    assert quoted_after("rules?", page.read_text()) <= names


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_timing_of_a_page_can_be_set(page: Path) -> None:
    """Names that end in `_s` are settings, and so are variables."""
    models = (Timings, VrrpSpec, QueueSpec, PolicySettings)
    known = {*(name for model in models for name in model.model_fields), "view_age_s"}
    plain = page.read_text()
    named = re.findall(r"`(?:timings\.|vrrp\.|queue\.)?([a-z_]+_(?:s|days))`", plain)
    assert set(named) <= known
    assert all(f"`{one}`" in settings_page() for one in re.findall(r"\bRELAY_[A-Z_]+\b", plain))


LENGTHS = [
    (r"(\d+) s after the last\s+renewal was sent|\"(\d+) s without another\"", "renew_deadline"),
    (r"deadline \((\d+) s\)|\"at (\d+) s, none given\"", "fence"),
    (r"lease expires \((\d+) s\)|\"at (\d+) s\"| (\d+) s after the last renewal, with", "duration"),
    (r"for (\d+) s: yes", "promise"),
]


@pytest.mark.parametrize(("pattern", "what"), LENGTHS, ids=lambda value: value)
def test_every_length_of_time_is_the_default(pattern: str, what: str) -> None:
    """The explanations say how long things take without any setting."""
    timings = Timings()
    wanted = {
        "renew_deadline": timings.lease_renew_deadline_s,
        "fence": timings.lease_duration_s - timings.lease_margin_s,
        "duration": timings.lease_duration_s,
        "promise": timings.promise_s,
    }[what]
    text = "\n".join(page.read_text() for page in PAGES)
    found = [one for match in re.finditer(pattern, text) for one in match.groups() if one]
    assert set(found) == {f"{wanted:g}"}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_file_of_this_repository_that_a_page_names_is_there(page: Path) -> None:
    """Modules, directories and tests."""
    roots = "nodeagent|controlplane|templates|compose|lab|tests|docs"
    for name in re.findall(rf"`((?:{roots})/[\w./-]+)", page.read_text()):
        assert (REPOSITORY / name).exists(), name


def functions_of(name: str) -> set[str]:
    """Name the test functions of a file."""
    tree = ast.parse((REPOSITORY / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_failure_names_a_test_that_is_there() -> None:
    """`Proved by` stands at the end of each section, and what it names can be run."""
    for section in FAILURE_MODES.read_text().split("\n## ")[1:]:
        title, _, proof = section.partition("**Proved by.**")
        names = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", proof)
        assert names, title.partition("\n")[0]
        for file, test in names:
            assert not test or test in functions_of(file), f"{file}::{test}"


def test_every_fault_that_is_tested_is_described() -> None:
    """A new end-to-end test of a fault asks for its section."""
    text = FAILURE_MODES.read_text()
    for file in E2E_OF_FAULTS:
        for name in functions_of(f"tests/e2e/{file}.py"):
            assert not name.startswith("test_") or name in text, name


def test_every_failure_is_in_the_table_at_the_top() -> None:
    """Who is woken at night finds it from there."""
    head, *sections = FAILURE_MODES.read_text().split("\n## ")
    for section in sections:
        title = section.partition("\n")[0]
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        assert f"(#{anchor})" in head, title


def test_the_log_rule_rotates_the_file_that_postfix_writes() -> None:
    """The install guide names it, and it is about the log of the rendered configuration."""
    rule = (REPOSITORY / "compose/logrotate/mail-relay").read_text()
    main_cf = (REPOSITORY / "templates/postfix/main.cf.j2").read_text()
    log = re.search(r"^maillog_file = (\S+)$", main_cf, re.MULTILINE)
    assert log is not None
    assert f"\n{log[1]} {{" in rule
    guide = (REPOSITORY / "docs/howto/install-on-two-hosts.md").read_text()
    assert "compose/logrotate/mail-relay /etc/logrotate.d/mail-relay" in guide
