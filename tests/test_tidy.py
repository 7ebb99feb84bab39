"""Keeps the limits of the style guide: sizes, names, docstrings, forbidden habits, live links.

Each check returns one sentence a finding, and is tried on bad samples of its own below, so that a
check that finds nothing is known to look.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("nodeagent", "controlplane", "lab", "docs")
FILE_LINES, TEST_FILE_LINES = 400, 600
FUNCTION_LINES = 60
CLASS_LINES = 200
ADR_LINES = 120
POSITIONAL_PARAMETERS = 5
NESTING = 3
FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "common", "misc"})
LONG_CLASSES = {
    "Executor": (280, "one short method an action, and nothing else"),
    "Guard": (220, "all it does happens under one lock, so it stays in one piece"),
}
MAY_CATCH_ALL = {
    "nodeagent/loop.py": "the tick: nothing that fails in it may end the agent",
    "nodeagent/policy/doors/boundary.py": "a defect over HTTP is answered as it was chosen",
    "nodeagent/policy/plugin_threads.py": "an exception goes from a thread to whoever awaits it",
    "nodeagent/policy/engine/plugins.py": "strangers' code is run there, and may raise anything",
}
MOCKS = re.compile(r"\b(?:unittest\.mock|MagicMock|AsyncMock|mocker)\b|\bimport mock\b")
SWALLOWED = re.compile(r"\|\|\s*(?:true|:)(?:\s|$)")
PUBLISHED = frozenset({".py", ".md", ".sh", ".j2", ".toml", ".service", ".conf", ".path", ".txt"})


def tracked() -> list[Path]:
    """Return every file that is in the repository and on the disk."""
    if shutil.which("git") is None:
        return _walk()
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    done = subprocess.run(
        [*command, "--exclude-standard"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return _walk()
    found = [ROOT / name for name in done.stdout.split("\0") if name]
    return sorted(path for path in found if path.is_file())


def _walk() -> list[Path]:
    """Return every file below the root that lies in no hidden directory."""
    found = (path for path in ROOT.rglob("*") if path.is_file())
    return sorted(
        path for path in found if not any(p.startswith(".") for p in path.relative_to(ROOT).parts)
    )


FILES = tracked()
MODULES = [path for path in FILES if path.suffix == ".py"]
PAGES = [path for path in FILES if path.suffix == ".md"]


def name_of(path: Path) -> str:
    """Return a path as findings show it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def is_test(path: Path) -> bool:
    """Tell whether a file belongs to the tests."""
    return name_of(path).startswith("tests/")


def file_too_long(path: Path, text: str) -> Iterator[str]:
    """Find a source file of more than 400 lines, a test of more than 600."""
    limit = TEST_FILE_LINES if is_test(path) else FILE_LINES
    count = len(text.splitlines())
    if count > limit:
        yield f"{count} lines, at most {limit}"


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def function_too_long(_path: Path, text: str) -> Iterator[str]:
    """Find functions of more than 60 lines."""
    for function in _functions(ast.parse(text)):
        if _length(function) > FUNCTION_LINES:
            yield f"{function.name} has {_length(function)} lines"


def class_too_long(path: Path, text: str) -> Iterator[str]:
    """Find classes of the program of more than 200 lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and not is_test(path):
            limit, _reason = LONG_CLASSES.get(node.name, (CLASS_LINES, ""))
            if _length(node) > limit:
                yield f"{node.name} has {_length(node)} lines"


def too_many_parameters(_path: Path, text: str) -> Iterator[str]:
    """Find functions with more than five positional parameters beside self."""
    for function in _functions(ast.parse(text)):
        names = [one.arg for one in function.args.posonlyargs + function.args.args]
        count = len([name for name in names if name not in {"self", "cls"}])
        is_command = any(isinstance(one, ast.Call) for one in function.decorator_list)
        if count > POSITIONAL_PARAMETERS and not is_command and not _is_typer(function):
            yield f"{function.name} takes {count} positional parameters"


def _is_typer(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether parameters are command line options: each stands in an Annotated of its own."""
    notes = [ast.unparse(one.annotation) for one in function.args.args if one.annotation]
    return any("typer." in note for note in notes)


def _depth(body: list[ast.stmt], depth: int = 0) -> int:
    deepest = depth
    for statement in body:
        blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [one.body for one in getattr(statement, "handlers", [])]
        blocks += [one.body for one in getattr(statement, "cases", [])]
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for block in blocks:
            is_elif = block == getattr(statement, "orelse", None) and len(block) == 1
            is_chain = is_elif and isinstance(block[0], ast.If)
            if block:
                deepest = max(deepest, _depth(block, depth if is_chain else depth + 1))
    return deepest


def nested_too_deep(path: Path, text: str) -> Iterator[str]:
    """Find functions of the program whose blocks are nested too deep."""
    if is_test(path):
        return
    for function in _functions(ast.parse(text)):
        depth = _depth(function.body)
        if depth > NESTING + 1:
            yield f"{function.name} is nested {depth} deep"


def module_without_sentence(_path: Path, text: str) -> Iterator[str]:
    """Find modules that do not open with one full sentence, ended within its paragraph."""
    tree = ast.parse(text)
    if not tree.body:
        return
    paragraph = (ast.get_docstring(tree) or "").partition("\n\n")[0].strip()
    if not paragraph:
        yield "no module docstring"
    elif not re.match(r"[A-Z0-9`\"']|keepalived|relay", paragraph) or paragraph[-1] not in ".:!?":
        yield f"its docstring begins with no full sentence: {paragraph[:60]!r}"


def fact_missing(path: Path, text: str) -> Iterator[str]:
    """Find tests that do not say in a docstring which fact they prove."""
    if not is_test(path):
        return
    for function in _functions(ast.parse(text)):
        if function.name.startswith("test_") and ast.get_docstring(function) is None:
            yield f"{function.name} states no fact"


def broad_except(path: Path, text: str) -> Iterator[str]:
    """Find `except Exception` and anything broader where there is no reason for it."""
    if name_of(path) in MAY_CATCH_ALL or is_test(path):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type is not None else "everything"
            if caught in {"Exception", "BaseException", "everything"} and not _raises(node):
                yield f"line {node.lineno} catches {caught}"


def _raises(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler ends by raising again what it caught."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def forbidden_name(path: Path, _text: str) -> Iterator[str]:
    """Find files and directories whose name says nothing."""
    for part in (*path.relative_to(ROOT).parts[:-1], path.stem):
        if set(part.lower().split("_")) & FORBIDDEN_NAMES:
            yield f"{part!r} says nothing about what is in it"


def mock_in_use(path: Path, text: str) -> Iterator[str]:
    """Find mocks; a fake is a class that passes the contract tests of the real thing."""
    if path == Path(__file__):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if MOCKS.search(line):
            yield f"line {number} uses a mock"


def unfinished(path: Path, text: str) -> Iterator[str]:
    """Find notes that somebody left to somebody."""
    if path == Path(__file__):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(?:TODO|FIXME|XXX)\b", line):
            yield f"line {number} is unfinished"


def swallowed_failure(path: Path, text: str) -> Iterator[str]:
    """Find shell commands that hide that they failed."""
    if path == Path(__file__):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if SWALLOWED.search(line):
            yield f"line {number} hides a failure"


CHECKS_OF_MODULES: tuple[Callable[[Path, str], Iterator[str]], ...] = (
    file_too_long,
    function_too_long,
    class_too_long,
    too_many_parameters,
    nested_too_deep,
    module_without_sentence,
    fact_missing,
    broad_except,
    forbidden_name,
    mock_in_use,
    unfinished,
)


@pytest.mark.parametrize("check", CHECKS_OF_MODULES, ids=lambda check: str(check.__name__))
def test_every_module_keeps_the_limit(check: Callable[[Path, str], Iterator[str]]) -> None:
    """The named limit holds in every Python file of the repository."""
    found = [
        f"{name_of(path)}: {sentence}"
        for path in MODULES
        for sentence in check(path, path.read_text())
    ]
    assert found == [], "\n".join(found)


def test_no_shell_command_hides_a_failure() -> None:
    """`|| true` is nowhere: not in a script, a template, a unit, or the Makefile."""
    found = [
        f"{name_of(path)}: {sentence}"
        for path in FILES
        if path.suffix in PUBLISHED - {".md"} or path.name in {"Makefile", "run"}
        for sentence in swallowed_failure(path, path.read_text())
    ]
    assert found == [], "\n".join(found)


def headings_of(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def dead_links(page: Path, text: str) -> Iterator[str]:
    """Find links of a page to files or headings of the repository that are not there."""
    plain = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", plain):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{link} leads nowhere"
        elif anchor and target.suffix == ".md" and anchor not in headings_of(target.read_text()):
            yield f"{link}: there is no such heading"


def test_links_in_the_docs_lead_somewhere() -> None:
    """Files and headings that the pages link to exist."""
    found = [f"{name_of(page)}: {s}" for page in PAGES for s in dead_links(page, page.read_text())]
    assert found == [], "\n".join(found)


def test_every_page_is_linked_from_the_contents() -> None:
    """A reader who starts at docs/README.md can find each page."""
    contents = (ROOT / "docs/README.md").read_text()
    pages = [page for page in PAGES if name_of(page).startswith("docs/")]
    missing = [
        name_of(page)
        for page in pages
        if page.name != "README.md" and f"({page.relative_to(ROOT / 'docs')})" not in contents
    ]
    assert missing == []


def broken_diagrams(_page: Path, text: str) -> Iterator[str]:
    """Find what Mermaid stumbles over: unbalanced blocks, and a semicolon, which ends a message."""
    for number, diagram in enumerate(re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL), 1):
        words = [line.split()[0] for line in diagram.splitlines() if line.strip()]
        opened = sum(words.count(word) for word in ("alt", "loop", "opt", "subgraph"))
        if ";" in diagram:
            yield f"diagram {number} has a semicolon"
        if opened != words.count("end"):
            yield f"diagram {number} opens {opened} blocks and ends {words.count('end')}"


def test_diagrams_can_be_drawn() -> None:
    """No diagram of the docs breaks off in the middle."""
    found = [f"{name_of(p)}: {s}" for p in PAGES for s in broken_diagrams(p, p.read_text())]
    assert found == [], "\n".join(found)


def test_every_failure_has_its_diagram_and_its_four_answers() -> None:
    """Each section says what is promised and not, what is seen, and what to do."""
    text = (ROOT / "docs/explanation/failure-modes.md").read_text()
    for section in text.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        assert section.count("sequenceDiagram") == 1, title
        for answer in ("**Promised.**", "**Not promised.**", "**You see.**", "**You do.**"):
            assert section.count(answer) == 1, f"{title}: {answer}"


def test_decisions_are_short_and_numbered_once() -> None:
    """An ADR has at most 120 lines, the four parts, and a number of its own."""
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    numbers = [path.name[:4] for path in decisions]
    assert len(set(numbers)) == len(numbers)
    for path in decisions:
        text = path.read_text()
        assert len(text.splitlines()) <= ADR_LINES, path.name
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        for part in ("## Context", "## Decision", "## Alternatives rejected", "## Consequences"):
            assert part in text, f"{path.name} has no {part!r}"


BAD_SAMPLES = [
    (file_too_long, "x = 1\n" * 401, "401 lines"),
    (function_too_long, "def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
    (class_too_long, "class C:\n" + "    x = 1\n" * 200, "C has 201 lines"),
    (too_many_parameters, "def f(a, b, c, d, e, f): ...\n", "f takes 6"),
    (
        nested_too_deep,
        "def f():\n if a:\n  if b:\n   if c:\n    if d:\n     for e in x:\n      g()\n",
        "f is nested 5 deep",
    ),
    (module_without_sentence, "x = 1\n", "no module docstring"),
    (module_without_sentence, '"""things"""\nx = 1\n', "begins with no full sentence"),
    (broad_except, "try:\n    f()\nexcept Exception:\n    pass\n", "catches Exception"),
    (broad_except, "try:\n    f()\nexcept:\n    pass\n", "catches everything"),
    (mock_in_use, "from unittest.mock import MagicMock\n", "line 1 uses a mock"),
    (unfinished, "# TODO: later\n", "line 1 is unfinished"),
    (swallowed_failure, "postfix stop || true\n", "line 1 hides a failure"),
    (broken_diagrams, "```mermaid\nA->>B: a; b\n```\n", "diagram 1 has a semicolon"),
    (broken_diagrams, "```mermaid\nalt x\nA->>B: a\n```\n", "opens 1 blocks and ends 0"),
    (dead_links, "[a](nowhere.md)\n", "nowhere.md leads nowhere"),
    (dead_links, "# Here\n[a](#there)\n", "#there: there is no such heading"),
]


@pytest.mark.parametrize(("check", "text", "sentence"), BAD_SAMPLES)
def test_each_check_finds_a_bad_sample(
    tmp_path: Path, check: Callable[[Path, str], Iterator[str]], text: str, sentence: str
) -> None:
    """A check that cannot fail would keep nothing."""
    sample = tmp_path / "sample.md"
    sample.write_text(text)
    assert sentence in " ".join(check(sample, text))


def test_names_that_say_nothing_are_found() -> None:
    """As a whole name and as a part of one, of a file and of a directory."""
    for name in ("nodeagent/utils.py", "lab/common/x.py", "controlplane/queue_helpers.py"):
        assert list(forbidden_name(ROOT / name, "")), name
    assert not list(forbidden_name(ROOT / "nodeagent/core/names.py", ""))


def test_good_samples_are_left_alone(tmp_path: Path) -> None:
    """A short module with a sentence, and a handler that raises again, break nothing."""
    text = '"""Says what it is."""\n\n\ndef f(a):\n    try:\n        a()\n'
    text += "    except BaseException:\n        a.close()\n        raise\n"
    sample = tmp_path / "sample.py"
    for check in CHECKS_OF_MODULES:
        if check is not forbidden_name:
            assert list(check(sample, text)) == [], check.__name__
