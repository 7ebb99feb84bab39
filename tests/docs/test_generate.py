"""The reference pages say what the program does today, and every part of it is on them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate
from docs.generator import commands, markdown, protocol
from nodeagent.core.contract import Timings
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP
from nodeagent.core.push_rules import RULES


@pytest.mark.parametrize("name", generate.PAGES)
def test_each_page_on_disk_is_what_the_program_says(name: str) -> None:
    """`docs/generate.py` has been run since the program last changed."""
    wanted = generate.PAGES[name]()
    assert (generate.REFERENCE / name).read_text() == wanted, "run docs/generate.py"


def test_a_missing_page_and_a_page_edited_by_hand_are_stale(tmp_path: Path) -> None:
    """Both kinds are named, with the text that belongs there."""
    (tmp_path / "rules.md").write_text("Edited by hand.\n")
    for name in generate.PAGES.keys() - {"rules.md", "cli.md"}:
        (tmp_path / name).write_text(generate.PAGES[name]())
    stale = generate.stale_pages(tmp_path)
    assert set(stale) == {"rules.md", "cli.md"}
    assert stale["rules.md"] == protocol.rules_page()


def test_check_writes_nothing_and_fails_when_a_page_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` ends with 1, names every page and leaves the directory empty."""
    assert generate.main(["--check", "--directory", str(tmp_path)]) == 1
    assert "timings.md is stale" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pages_are_written_once_and_then_are_fresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run finds nothing to do, and `--check` is content."""
    assert generate.main(["--directory", str(tmp_path / "new")]) == 0
    assert "cli.md" in capsys.readouterr().out
    assert generate.main(["--directory", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == ""
    assert generate.main(["--check", "--directory", str(tmp_path / "new")]) == 0


def test_every_rule_is_in_the_table_and_in_the_flow() -> None:
    """No rule of the agent is missing from its reference, and the order is the program's."""
    text = protocol.rules_page()
    for rules in (OWNERSHIP, HOUSEKEEPING):
        for number, rule in enumerate(rules, 1):
            assert f"| {number} | `{rule.name}` | {rule.comment} |" in text
    flow = protocol.flow_of(OWNERSHIP)
    assert re.findall(r'r\d+\{"([a-z-]+)"\}', flow) == [rule.name for rule in OWNERSHIP]


def test_the_actions_of_a_rule_are_read_from_the_rule_itself() -> None:
    """A rule that plans shows its actions, one that waits shows none."""
    found = {rule.name: protocol.actions_of(rule) for rule in OWNERSHIP}
    assert found["push"] == ["Push"]
    assert found["unsettled"] == []
    assert found["adoption-next"] == [
        "AcquireLease",
        "WriteReceipt",
        "CommitReceipt",
        "PlaceAdopted",
    ]


def test_every_timing_has_a_sentence_and_every_sentence_a_timing() -> None:
    """Neither can be added or renamed without the other."""
    assert set(protocol.TIMING_TEXTS) == set(Timings.model_fields)


def test_every_refusal_of_a_push_has_a_sentence() -> None:
    """What the receiver may answer is all in the reference."""
    assert set(protocol.REFUSAL_TEXTS) == {reason for reason, _ in RULES}


def test_every_setting_says_what_it_means() -> None:
    """No row of the settings page has an empty last column."""
    rows = [line for line in generate.settings_page().splitlines() if line.startswith("| `RELAY_")]
    assert len(rows) > 10
    assert [row for row in rows if row.split("|")[-2].strip() == ""] == []


def test_every_path_of_the_api_is_listed_with_what_it_does() -> None:
    """The page has one line a call, none of them without a sentence."""
    page = generate.api_page()
    for path, methods in generate.openapi_document()["paths"].items():
        for method in methods:
            line = re.search(rf"\| `{method.upper()}` \| `{re.escape(path)}` \| (.*) \|", page)
            assert line is not None, f"{method} {path}"
            assert line.group(1).strip(), f"{method} {path} has no sentence"


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    """Choices such as `a|b` stay in one column."""
    assert markdown.table(("x",), [("a|b",)]).splitlines()[-1] == "| a\\|b |"


@pytest.mark.parametrize("name", [*commands.COMMANDS, *commands.PLAIN_COMMANDS])
def test_every_command_has_its_section(name: str) -> None:
    """All commands that pyproject.toml installs are in the reference."""
    assert f"\n## {name}\n" in commands.cli_page()


def test_all_installed_commands_are_known_to_the_generator() -> None:
    """A new entry in [project.scripts] asks for its section."""
    text = (generate.REPOSITORY / "pyproject.toml").read_text()
    section = text.partition("[project.scripts]")[2].partition("\n[")[0]
    names = set(re.findall(r"^([a-z-]+) =", section, re.MULTILINE))
    assert names == {*commands.COMMANDS, *commands.PLAIN_COMMANDS}
