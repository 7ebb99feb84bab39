"""The table of the built-in threat rules: injections of code in texts, headers and names.

A score says how sure one match makes: 5 puts a mail into quarantine, 10 rejects it, by default.
What stands in honest mail, too (a developer's SQL, an install command, a <script>), scores so low
that it takes several signs; what is said in a subject, where no honest mail has code, scores more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nodeagent.policy.engine.threat_evidence import Evidence
from nodeagent.policy.model import Severity


class Where(StrEnum):
    """Which part of a mail a rule reads."""

    SUBJECT = "subject"
    HEADERS = "headers"  # all of them, as they came
    TEXT = "text"  # what a reader sees
    MARKUP = "markup"  # HTML
    SCRIPT = "script"  # what scripts in HTML hold
    URLS = "urls"  # of links and texts
    ATTACHMENT = "attachment"  # names, also inside archives
    STRUCTURE = "structure"  # how the mail is built


@dataclass(frozen=True, slots=True)
class ThreatRule:
    """One built-in rule; it fires where a pattern (RE2) matches, or where `sign` finds something.

    `sign` returns what it found, None for nothing.
    """

    name: str  # kebab-case, for ever
    description: str  # one sentence for the administrator
    score: float  # its own; a ThreatSetting may say another
    severity: Severity
    where: tuple[Where, ...]
    patterns: tuple[str, ...] = ()
    sign: Callable[[Evidence], str | None] | None = None


_LOW, _MEDIUM, _HIGH, _CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL
_SAID: Final = (Where.SUBJECT, Where.TEXT)
_TOLD: Final = (Where.SUBJECT, Where.HEADERS)
_TEXT: Final = (Where.TEXT,)
_SHELL: Final = (
    r"(?:bash|busybox|curl|dash|id|nc|ncat|nslookup|perl|ping|python3?|sh|sleep|wget|whoami|zsh)"
)
PUBLIC_IP: Final = (  # and none of 172/8 and 192/8, most of whose uses in mail are private ones
    r"(?:\d|1[1-9]|[2-9]\d|1[013-68]\d|12[0-689]|17[013-9]|19[013-9]|2\d\d)(?:\.\d{1,3}){3}"
)
_RUN_DIALOG: Final = (
    r"\bwin(?:dows)?(?:[ -]?key|-taste)?\s*\+\s*[rx]\b.*\b(?:ctrl|control|strg)\s*\+\s*v\b"
)
_JNDI: Final = r"(?i)\$\{jndi:(?:ldaps?|rmi|dns|iiop|nis|nds|corba|https?):"
_JNDI_HIDDEN: Final = (
    r"(?i)\$\{[^}$]*(?:\$\{(?:lower|upper|env|sys|date|::-|[a-z]*:[^}]*:-)[^}]*\}[^}$]*){2,}",
    r"(?i)\$\{\$\{[^}]*\}[^}]{0,10}ndi",
)

CODE_RULES: Final = (
    ThreatRule(
        "jndi-lookup-header",
        "A header or the subject has a Log4j look-up as of CVE-2021-44228.",
        10.0,
        _CRITICAL,
        _TOLD,
        (_JNDI, *_JNDI_HIDDEN),
    ),
    ThreatRule(
        "jndi-lookup",
        "The text has a Log4j look-up, which reports about it quote as well.",
        2.0,
        _MEDIUM,
        _TEXT,
        (_JNDI,),
    ),
    ThreatRule(
        "jndi-lookup-hidden",
        "The text has a Log4j look-up that is written so that filters miss it.",
        6.0,
        _HIGH,
        _TEXT,
        _JNDI_HIDDEN,
    ),
    ThreatRule(
        "shellshock-header",
        "A header or the subject defines a bash function as of CVE-2014-6271.",
        10.0,
        _CRITICAL,
        _TOLD,
        (r"\(\s*\)\s*\{[^}\n]*;\s*\}\s*;",),
    ),
    ThreatRule(
        "mta-expansion-header",
        "A header has an Exim expansion that runs a program, as of CVE-2019-10149.",
        10.0,
        _CRITICAL,
        _TOLD,
        (r"(?i)\$\{(?:run|perl|readsocket|readfile|dlfunc)\s*\{",),
    ),
    ThreatRule(
        "shell-in-subject",
        "The subject has a shell command.",
        6.0,
        _HIGH,
        (Where.SUBJECT,),
        (
            rf"\$\(\s*{_SHELL}\b[^)]*\)",
            rf"`\s*{_SHELL}\b[^`]+`",
            rf"(?:;|\|\|?|&&)\s*{_SHELL}\s+(?:-\w+\s+)*(?:https?://|/|\d+\.\d+\.)",
            r"(?:;|\|\|?|&&)\s*(?:cat\s+/etc/(?:passwd|shadow)|rm\s+-rf?\s+[/~*])",
            r"\$\{IFS\}",
        ),
    ),
    ThreatRule(
        "shell-in-address",
        "An address or a name in a header has a pipe or a substitution that starts a shell.",
        10.0,
        _CRITICAL,
        (Where.HEADERS,),
        (
            rf"(?i)(?:^|\n)(?:from|to|cc|reply-to|sender|return-path):[^\n]*(?:\$\(|`)\s*{_SHELL}\b",
            r"(?i)(?:^|\n)(?:from|to|cc|reply-to|sender|return-path):[^\n]*\|\s*/?(?:usr/)?bin/",
            r"(?i)(?:^|\n)(?:from|to|cc|reply-to|sender|return-path):[^\n]*\$\{IFS\}",
        ),
    ),
    ThreatRule(
        "reverse-shell",
        "The text has a command that hands a shell to another host.",
        6.0,
        _HIGH,
        _SAID,
        (
            r">&?\s*/dev/tcp/[\w.-]+/\d+\s+0[<>]&1",
            r"\bn(?:c|cat|etcat)\s+(?:-\w+\s+)*[\w.:-]+\s+(?:\d+\s+)?-[ec]\s+/?(?:usr/)?(?:bin/)?(?:ba)?sh",
            r"\bn(?:c|cat|etcat)\s+(?:-\w*e\s+)/?(?:usr/)?(?:bin/)?(?:ba)?sh",
            r"mkfifo\s+\S+\s*;[^\n]*\|\s*n(?:c|cat)\s",
            r"socket\.socket\([^\n]*\)[^\n]*\.connect\(\([^\n]*dup2\(",
        ),
    ),
    ThreatRule(
        "piped-download",
        "The text has a command that runs what it downloads, as install instructions have, too.",
        1.5,
        _LOW,
        _TEXT,
        (r"\b(?:curl|wget)\s[^\n|]*https?://[^\n|]*\|\s*(?:sudo\s+)?(?:ba|da|z)?sh\b",),
    ),
    ThreatRule(
        "piped-download-from-address",
        "The text has a command that runs what it downloads from a bare IP address.",
        5.0,
        _HIGH,
        _SAID,
        (
            (
                rf"\b(?:curl|wget)\s(?:[^\n|;&]*[\s/])?{PUBLIC_IP}[:/\s][^\n|;&]*"
                r"(?:\||;|&&)\s*(?:sudo\s+)?(?:chmod|(?:ba|da|z)?sh)\b"
            ),
        ),
    ),
    ThreatRule(
        "powershell-encoded",
        "The text has a PowerShell command whose code is encoded.",
        6.0,
        _HIGH,
        (*_SAID, Where.SCRIPT),
        (r"(?i)\bpowershell(?:\.exe)?\s[^\n]*-e(?:c|nc|ncodedcommand)?\s+[a-z0-9+/]{32}",),
    ),
    ThreatRule(
        "powershell-download",
        "The text has a PowerShell command that runs what it downloads.",
        2.0,
        _MEDIUM,
        (*_SAID, Where.SCRIPT),
        (
            r"(?i)\b(?:iex|invoke-expression)\b[^\n]*(?:downloadstring|invoke-webrequest|invoke-restmethod|\biwr\b|\birm\b)",
            r"(?i)(?:downloadstring|invoke-webrequest|\biwr\b|\birm\b)[^\n]*\|\s*(?:iex|invoke-expression)\b",
        ),
    ),
    ThreatRule(
        "hidden-powershell",
        "The text has a command that starts PowerShell where its user does not see it.",
        3.0,
        _MEDIUM,
        (*_SAID, Where.SCRIPT),
        (r"(?i)\bpowershell(?:\.exe)?\s[^\n]*-w(?:i|in|indowstyle)?\s+(?:h|hidden|1)\b",),
    ),
    ThreatRule(
        "system-program-download",
        "The text has a command that makes a program of Windows fetch code.",
        5.0,
        _HIGH,
        (*_SAID, Where.SCRIPT),
        (
            r"(?i)\bmshta(?:\.exe)?\s+[\"']?(?:https?|javascript|vbscript):",
            r"(?i)\bregsvr32(?:\.exe)?\s[^\n]*/i:https?://",
            r"(?i)\bcertutil(?:\.exe)?\s[^\n]*-urlcache\s[^\n]*https?://",
            r"(?i)\bbitsadmin(?:\.exe)?\s[^\n]*/transfer\s[^\n]*https?://",
            r"(?i)\brundll32(?:\.exe)?\s+(?:javascript:|\\\\)",
        ),
    ),
    ThreatRule(
        "paste-and-run",
        "The text tells the reader to open the Run dialog and to paste a command.",
        3.0,
        _MEDIUM,
        _TEXT,
        (rf"(?is){_RUN_DIALOG}",),
    ),
    ThreatRule(
        "paste-and-run-lure",
        "The text does so to prove that the reader is human, or to repair something.",
        3.0,
        _MEDIUM,
        _TEXT,
        (
            (
                r"(?is)\b(?:captcha|robot|human|verif\w+|mensch|prüf\w+|repair|fix|reparieren)\b.*"
                rf"{_RUN_DIALOG}"
            ),
        ),
    ),
    ThreatRule(
        "template-injection",
        "The text has a template expression that reaches for the program behind it.",
        5.0,
        _HIGH,
        _SAID,
        (
            r"\{\{[^}\n]*(?:__class__|__mro__|__subclasses__|__globals__|__builtins__|__import__)",
            r"\{\{[^}\n]*(?:constructor\.constructor|\.popen\(|os\.system\()",
            r"(?:\$|\*|#)\{\s*T\(\s*java\.lang\.",
            r"\$\{\s*(?:''|\"\")\.getClass\(\)",
            r"%\{\(#(?:_memberAccess|dm|context|ognlUtil)",
            r"<#assign\s[^>\n]*freemarker\.template\.utility\.Execute",
            r"#set\s*\(\s*\$\w+\s*=[^\n]*java\.lang\.Runtime",
            r"<%=?\s*(?:system|exec|`|IO\.popen|Runtime\.getRuntime)",
            r"\{php\}[^\n]*\{/php\}",
        ),
    ),
    ThreatRule(
        "template-probe",
        "The subject has a sum in a template's brackets, to find out who evaluates it.",
        5.0,
        _HIGH,
        (Where.SUBJECT,),
        (r"(?:\{\{|\$\{|#\{|<%=|\*\{)\s*\d+\s*\*\s*'?\d+'?\s*(?:\}\}?|%>)",),
    ),
    ThreatRule(
        "php-code",
        "The text has PHP, as a developer's mail may.",
        0.5,
        _LOW,
        _TEXT,
        (r"(?i)<\?php\s",),
    ),
    ThreatRule(
        "php-shell",
        "The text or the markup has PHP that runs what a visitor sends or what is hidden in it.",
        6.0,
        _HIGH,
        (*_SAID, Where.MARKUP, Where.HEADERS),
        (
            r"(?i)\b(?:eval|assert|system|passthru|shell_exec|exec|popen|proc_open)\s*\(\s*@?\$_(?:get|post|request|cookie|server)\b",
            r"(?i)\beval\s*\(\s*(?:gzinflate|gzuncompress|str_rot13|base64_decode)\s*\(",
            r"(?i)<\?(?:php|=)?\s*(?:@?system|passthru|shell_exec|`)\s*\(?\s*['\"]?\$?[a-z_]",
        ),
    ),
    ThreatRule(
        "xml-external-entity",
        "The text declares an XML entity that reads a file or an address.",
        5.0,
        _HIGH,
        (*_SAID, Where.MARKUP),
        (r"(?i)<!entity\s+%?\s*\w+\s+system\s+[\"'](?:file|https?|ftp|php|expect|gopher|data):",),
    ),
    ThreatRule(
        "path-traversal-name",
        "An attachment or a file in an archive has a name that leads out of its directory.",
        5.0,
        _HIGH,
        (Where.ATTACHMENT,),
        (r"(?m)(?:^|[/\\])\.\.[/\\]\.\.[/\\]", r"(?im)^(?:/etc/|/root/|[a-z]:\\windows\\)"),
    ),
    ThreatRule(
        "command-in-name",
        "An attachment has a name with a shell command in it.",
        6.0,
        _HIGH,
        (Where.ATTACHMENT,),
        (
            rf"\$\(\s*{_SHELL}\b",
            rf"`\s*{_SHELL}\b",
            rf"(?:;|\|\|?|&&)\s*{_SHELL}\s+(?:-\w|[/$]|https?:|\d+\.\d+\.)",
            r"\$\{IFS\}",
        ),
    ),
)
