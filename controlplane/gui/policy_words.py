"""What the pages of the mail policy call its verdicts, severities, stages and kinds of rules."""

from __future__ import annotations

from typing import Any, Final

from controlplane.gui.forms import Option
from controlplane.gui.language import N_
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

VERDICTS: Final = {
    Verdict.ACCEPT: (N_("accepted"), "good"),
    Verdict.QUARANTINE: (N_("in quarantine"), "warn"),
    Verdict.TEMPFAIL: (N_("put off"), "info"),
    Verdict.REJECT: (N_("refused"), "bad"),
    Verdict.DISCARD: (N_("discarded"), "unknown"),
}
"""Words and tone of what was decided."""
VERDICT_OPTIONS: Final = {
    Verdict.ACCEPT: Option(Verdict.ACCEPT.value, N_("accept: only note it")),
    Verdict.QUARANTINE: Option(Verdict.QUARANTINE.value, N_("quarantine: hold it")),
    Verdict.TEMPFAIL: Option(Verdict.TEMPFAIL.value, N_("put off: the sender tries again")),
    Verdict.REJECT: Option(Verdict.REJECT.value, N_("refuse")),
    Verdict.DISCARD: Option(Verdict.DISCARD.value, N_("discard: taken and thrown away")),
}
"""What can be chosen to be done."""
SEVERITIES: Final = {
    Severity.LOW: (N_("low"), "unknown"),
    Severity.MEDIUM: (N_("medium"), "info"),
    Severity.HIGH: (N_("high"), "warn"),
    Severity.CRITICAL: (N_("critical"), "bad"),
}
SEVERITY_OPTIONS: Final = tuple(
    Option(one.value, words) for one, (words, _tone) in SEVERITIES.items()
)
STAGES: Final = {
    Stage.CONNECT: N_("connection"),
    Stage.EHLO: "EHLO",
    Stage.AUTH: "AUTH",
    Stage.MAIL: "MAIL",
    Stage.RCPT: "RCPT",
    Stage.DATA: N_("end of message"),
}
KINDS: Final = {
    RuleKind.ALLOWLIST: N_("allowlist"),
    RuleKind.BLOCKLIST: N_("blocklist"),
    RuleKind.BADWORD: N_("bad word"),
    RuleKind.THREAT: N_("threat pattern"),
    RuleKind.ATTACHMENT: N_("attachment"),
    RuleKind.RATE: N_("rate limit"),
    RuleKind.HELO: "HELO",
    RuleKind.SENDER: N_("sender"),
    RuleKind.RECIPIENT: N_("recipient"),
    RuleKind.AUTHENTICATION: "SPF, DKIM, DMARC",
    RuleKind.CATEGORY: N_("category"),
    RuleKind.PLUGIN: N_("plugin"),
    RuleKind.FAULT: N_("fault of the hook"),
}
WORDS: Final[dict[str, Any]] = {
    "verdicts": {one: words for one, (words, _tone) in VERDICTS.items()},
    "verdict_tones": {one: tone for one, (_words, tone) in VERDICTS.items()},
    "severities": {one: words for one, (words, _tone) in SEVERITIES.items()},
    "severity_tones": {one: tone for one, (_words, tone) in SEVERITIES.items()},
    "stages": STAGES,
    "kinds": KINDS,
}
"""What the templates of lists and logs are given."""
ANY: Final = Option("", N_("Any"))
VERDICT_FILTER: Final = (
    ANY,
    *(Option(one.value, words) for one, (words, _tone) in VERDICTS.items()),
)
SEVERITY_FILTER: Final = (ANY, *SEVERITY_OPTIONS)
KIND_FILTER: Final = (ANY, *(Option(one.value, words) for one, words in KINDS.items()))
STAGE_FILTER: Final = (ANY, *(Option(one.value, words) for one, words in STAGES.items()))
