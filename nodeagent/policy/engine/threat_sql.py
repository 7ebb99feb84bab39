"""The part of the table of the built-in threat rules that is about injections of SQL.

A developer's mail has SQL: what counts is SQL that begins by ending somebody else's string.
"""

from __future__ import annotations

from typing import Final

from nodeagent.policy.engine.threat_rules import ThreatRule, Where
from nodeagent.policy.model import Severity

_LOW, _MEDIUM, _HIGH = Severity.LOW, Severity.MEDIUM, Severity.HIGH
_TOLD: Final = (Where.SUBJECT, Where.HEADERS)
_TEXT: Final = (Where.TEXT,)
_SQL_TAUTOLOGY: Final = (  # a literal that is compared with a literal; a column is not
    r"(?i)['\"]\s*\)?\s*(?:or|and|\|\|)\s+\(?\s*(?:['\"]\w*['\"]|\d+)\s*(?:=|like)\s*['\"\d]",
    r"(?i)\bor\s+\d+\s*=\s*\d+\s*(?:--|#|/\*)",
)
_SQL_TAUTOLOGY_CUT: Final = (
    (
        r"(?i)['\"]\s*\)?\s*(?:or|and|\|\|)\s+\(?\s*(?:['\"]\w*['\"]|\d+)\s*(?:=|like)\s*"
        r"(?:['\"]\w*['\"]?|\d+)\s*\)?\s*(?:;\s*)?(?:--|#|/\*)"
    ),
    r"(?i)['\"]\s*\)?\s*(?:or|and)\s+['\"]\w+['\"]\s*=\s*['\"]\w+$",
)
_SQL_STACKED: Final = (
    (
        r"(?i)['\"]\s*\)?[ \t]*;[ \t]*(?:alter|create|delete|drop|exec|execute|insert|shutdown"
        r"|truncate|update)\b[^\n;]*;?[ \t]*(?:--|#|/\*)"
    ),
)
_SQL_UNION: Final = (
    r"(?i)['\")]\s*union\s+(?:all\s+)?select\b",
    r"(?i)\bunion\s+(?:all\s+)?select\s+(?:null|\d+)\s*,\s*(?:null|\d+)",
    r"(?i)\bunion/\*[^*]*\*/(?:all/\*[^*]*\*/)?select\b",
)
_SQL_TIMED: Final = (
    (
        r"(?i)['\")]\s*(?:\band|\bor|\|\|)\s+\(?\s*(?:select\s+)?"
        r"(?:\*\s+from\s*\(\s*select\s*\(\s*)?(?:pg_sleep|sleep|benchmark)\s*\(\s*[\d(]"
    ),
    r"(?i)['\")]\s*;\s*select\s+(?:pg_sleep|sleep|benchmark)\s*\(",
    r"(?i)['\")]\s*;?\s*waitfor\s+delay\s+'",
    r"(?i)\band\s+(?:extractvalue|updatexml)\s*\(\s*\d",
)

SQL_RULES: Final = (
    ThreatRule(
        "sql-in-subject",
        "The subject or a header ends a string and goes on in SQL.",
        6.0,
        _HIGH,
        _TOLD,
        (*_SQL_TAUTOLOGY, *_SQL_STACKED, *_SQL_UNION, *_SQL_TIMED),
    ),
    ThreatRule(
        "sql-tautology",
        "The text ends a string and goes on in SQL with a condition that is always true.",
        2.5,
        _MEDIUM,
        _TEXT,
        _SQL_TAUTOLOGY,
    ),
    ThreatRule(
        "sql-tautology-cut",
        "The text cuts off the rest of a statement behind a condition that is always true.",
        3.0,
        _MEDIUM,
        _TEXT,
        _SQL_TAUTOLOGY_CUT,
    ),
    ThreatRule(
        "sql-stacked",
        "The text ends a string, then a statement that changes data, then the rest by a comment.",
        5.0,
        _HIGH,
        _TEXT,
        _SQL_STACKED,
    ),
    ThreatRule(
        "sql-union",
        "The text appends a UNION SELECT as injections do.",
        3.0,
        _MEDIUM,
        _TEXT,
        _SQL_UNION,
    ),
    ThreatRule(
        "sql-timed",
        "The text makes a database wait or fail so that its answers can be guessed.",
        5.0,
        _HIGH,
        _TEXT,
        _SQL_TIMED,
    ),
    ThreatRule(
        "sql-system-access",
        "The text makes a database run a program or write a file.",
        3.0,
        _MEDIUM,
        _TEXT,
        (
            r"(?i)\bxp_cmdshell\b",
            r"(?i)\binto\s+(?:out|dump)file\s+'[^'\n]*\.(?:php|jsp|aspx?)'",
            r"(?i)\bload_file\s*\(\s*'/etc/",
            r"(?i)\bcopy\s+\S+\s+(?:from|to)\s+program\s+'",
        ),
    ),
    ThreatRule(
        "sql-schema-probe",
        "The text reads the names of a database's tables or its users' passwords.",
        1.5,
        _LOW,
        _TEXT,
        (
            r"(?i)\b(?:from|join)\s+information_schema\.(?:tables|columns|schemata)\b",
            r"(?i)\bfrom\s+(?:mysql\.user|pg_shadow|sys\.sql_logins|sqlite_master)\b",
            r"(?i)\b(?:group_)?concat\s*\(\s*(?:user|username|login)\w*\s*,[^\n)]*pass",
        ),
    ),
)
