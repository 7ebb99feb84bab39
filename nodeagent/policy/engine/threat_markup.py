"""The second half of the table of the built-in threat rules: HTML, links, how a mail is built."""

from __future__ import annotations

from typing import Final

from nodeagent.policy.engine import threat_signs as signs
from nodeagent.policy.engine.content import ContentFault
from nodeagent.policy.engine.threat_rules import PUBLIC_IP, ThreatRule, Where
from nodeagent.policy.model import Severity

_LOW, _MEDIUM, _HIGH, _CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL
_MARKUP: Final = (Where.MARKUP,)
_SCRIPT: Final = (Where.SCRIPT,)
_URLS: Final = (Where.URLS,)
_STRUCTURE: Final = (Where.STRUCTURE,)


def _spelled(word: str) -> str:
    """Return a pattern for a word whose letters are entities or have white space between them."""
    gap = r"(?:\s|&(?:tab|newline);|&#x?0*(?:9|10|13|a|d);?)*"
    return gap.join(rf"(?:{one}|&#0*{ord(one)};?|&#x0*{ord(one):x};?)" for one in word)


_SCRIPT_SCHEME: Final = (
    f"(?:{_spelled('javascript')}|{_spelled('vbscript')}|{_spelled('livescript')})"
)
_COLON: Final = r"\s*(?::|&colon;|&#0*58;?|&#x0*3a;?)\s*"
_ADDRESS_OF: Final = (
    r"(?i)[\s\"'/](?:href|src|action|formaction|background|data|poster|srcdoc)\s*=\s*[\"']?\s*"
)
_ACTIVE_TYPE: Final = (
    r"(?:text/html|text/javascript|application/(?:x-)?javascript|application/xhtml"
    r"|image/svg\+xml[^\"'>]*script)"
)
_BEFORE_HANDLER: Final = r"(?i)<[a-z][^>]*[\s\"'/]on"
_BY_ITSELF: Final = r"(?:animation\w+|begin|error|focus(?:in)?|load|pageshow|scroll|start|toggle)"
_BY_THE_READER: Final = r"(?:click|mouse\w+|pointer\w+|wheel)"
_VALUE_WITH: Final = r"\s*=\s*(?:\"[^\">]*|'[^'>]*|[^\s\"'>]*)"
_SHOWS_OR_SENDS: Final = (
    r"(?:\balert|\bfetch|\bimport\s*\(|innerhtml|localstorage|\bprompt|sendbeacon)"
)
_HEADERS_TO_ADD: Final = "(?:bcc|cc|content-type|mime-version|reply-to|subject|to)"

MARKUP_RULES: Final = (
    ThreatRule(
        "script-element",
        "The markup has a script, as pages that became mails do; mail programs do not run it.",
        1.5,
        _LOW,
        _SCRIPT,
        sign=signs.has_script,
    ),
    ThreatRule(
        "script-page-code",
        "A script in the markup loads or writes something, as counters of visits do, too.",
        1.5,
        _LOW,
        _SCRIPT,
        (
            r"(?i)\bdocument\s*\.\s*write(?:ln)?\b",
            r"(?i)\b(?:window|top|self|parent|location)\s*\.\s*(?:location|href|replace|assign)\b",
            r"(?i)\b(?:xmlhttprequest|fetch\s*\(|sendbeacon)",
            r"(?i)\bsrc\s*=\s*[\"']?(?:https?:)?//",
        ),
    ),
    ThreatRule(
        "script-code",
        "A script in the markup runs what it decodes, reads cookies or opens a dialog.",
        4.0,
        _MEDIUM,
        _SCRIPT,
        (
            r"(?i)\beval\s*\(",
            r"(?i)\bdocument\s*(?:\.|\[['\"])\s*cookie\b",
            r"(?i)\b(?:activexobject|wscript\.)",
            r"(?i)\bnew\s+function\s*\(",
            r"(?i)\b(?:alert|prompt|confirm)\s*\(",
        ),
    ),
    ThreatRule(
        "script-hidden-code",
        "A script in the markup hides its code.",
        6.0,
        _HIGH,
        _SCRIPT,
        (
            r"(?i)\beval\s*\(\s*(?:atob|unescape|decodeuri|string\.fromcharcode|function\s*\(\s*p\s*,)",
            r"(?i)\b(?:write|innerhtml)\b[^\n]*(?:decodeuricomponent|atob)\s*\(",
            r"(?i)\bunescape\s*\(\s*['\"][^'\"\n]{120}",
            r"(?i)unescape\s*\(\s*['\"](?:%u?[0-9a-f]{2,4}){8}",
            r"(?i)string\.fromcharcode\s*\(\s*(?:(?:0x)?[0-9a-f]+\s*,\s*){8}",
            r"(?i)(?:\\x[0-9a-f]{2}){16}",
        ),
    ),
    ThreatRule(
        "html-smuggling",
        "A script in the markup builds a file and hands it to the reader as a download.",
        10.0,
        _CRITICAL,
        _SCRIPT,
        (
            r"(?is)\batob\s*\(.*\bnew\s+(?:blob|file)\s*\(",
            r"(?is)\bnew\s+(?:blob|file)\s*\(.*(?:createobjecturl|mssaveoropenblob|mssaveblob)",
        ),
    ),
    ThreatRule(
        "script-address",
        "A link or another address in the markup is a script.",
        6.0,
        _HIGH,
        _MARKUP,
        (rf"{_ADDRESS_OF}{_SCRIPT_SCHEME}{_COLON}(?:[^\s;v\"'>]|v[^o])",),
    ),
    ThreatRule(
        "data-address",
        "A link, a frame or an object in the markup holds a whole page or script.",
        6.0,
        _HIGH,
        _MARKUP,
        (
            f"{_ADDRESS_OF}{_spelled('data')}{_COLON}{_ACTIVE_TYPE}",
            r"(?i)url\s*=\s*[\"']?\s*data\s*:\s*text/html",
        ),
    ),
    ThreatRule(
        "event-handler",
        "An element of the markup has a handler of events.",
        0.5,
        _LOW,
        _MARKUP,
        (
            rf"{_BEFORE_HANDLER}(?:{_BY_ITSELF}|{_BY_THE_READER})\s*=",
            rf"{_BEFORE_HANDLER}(?:blur|change|submit|resize|key\w+)\s*=",
        ),
    ),
    ThreatRule(
        "event-handler-code",
        "An element of the markup runs code when it is shown or fails to load.",
        6.0,
        _HIGH,
        _MARKUP,
        (
            rf"{_BEFORE_HANDLER}{_BY_ITSELF}{_VALUE_WITH}{_SHOWS_OR_SENDS}",
            (
                rf"{_BEFORE_HANDLER}(?:animation\w+|begin|error|start|toggle){_VALUE_WITH}"
                r"(?:\bconfirm|\bdocument|\blocation|settimeout|\bwindow)"
            ),
            (
                rf"{_BEFORE_HANDLER}(?:{_BY_ITSELF}|{_BY_THE_READER}){_VALUE_WITH}"
                r"(?:\batob|\bcookie|\beval|fromcharcode|unescape|wscript|xmlhttp)"
            ),
        ),
    ),
    ThreatRule(
        "style-expression",
        "A style in the markup runs code in old browsers.",
        1.0,
        _LOW,
        _MARKUP,
        (r"(?i)[:\s]expression\s*\(", r"(?i)-moz-binding\s*:\s*url"),
    ),
    ThreatRule(
        "frame",
        "The markup shows another page in a frame.",
        1.0,
        _LOW,
        _MARKUP,
        (r"(?i)<i?frame\s[^>]*src\s*=",),
    ),
    ThreatRule(
        "hidden-frame",
        "The markup loads another page in a frame that nobody sees.",
        5.0,
        _HIGH,
        _MARKUP,
        sign=signs.hidden_frame,
    ),
    ThreatRule(
        "plug-in",
        "The markup has an object, an applet or an embedded file that wants a plug-in.",
        1.5,
        _LOW,
        _MARKUP,
        (
            r"(?i)<applet[\s>]",
            r"(?i)<(?:object|embed)\s[^>]*(?:classid|codebase|data|src)\s*=",
        ),
    ),
    ThreatRule(
        "plug-in-code",
        "The markup has an object of a class that runs programs.",
        6.0,
        _HIGH,
        _MARKUP,
        (
            r"(?i)clsid:(?:f935dc22|72c24dd5|13709620|0d43fe01|00000566|88d96a0a|adb880a6|9ba05972)",
            r"(?i)<(?:object|embed)\s[^>]*(?:data|src)\s*=\s*[\"']?[^\"'>]*\.(?:hta|exe|scr|vbs|jar)\b",
        ),
    ),
    ThreatRule(
        "refresh-to-address",
        "The markup sends the reader on to another page by itself.",
        5.0,
        _HIGH,
        _MARKUP,
        (r"(?i)<meta\s[^>]*http-equiv\s*=\s*[\"']?refresh[^>]*url\s*=",),
    ),
    ThreatRule(
        "form",
        "The markup has a form.",
        0.5,
        _LOW,
        _MARKUP,
        (r"(?i)<form[\s>]",),
    ),
    ThreatRule(
        "password-form",
        "The markup has a form that sends a password to another domain than the sender's.",
        6.0,
        _HIGH,
        _MARKUP,
        sign=signs.password_form,
    ),
    ThreatRule(
        "script-file",
        "An HTML file is attached, and the mail has scripts.",
        2.5,
        _MEDIUM,
        (Where.ATTACHMENT,),
        sign=signs.script_file,
    ),
)

LINK_RULES: Final = (
    ThreatRule(
        "link-mismatch",
        "A link shows an address of another domain than it leads to, as counted links do, too.",
        2.0,
        _LOW,
        _MARKUP,
        sign=signs.mismatch,
    ),
    ThreatRule(
        "link-mismatch-account",
        "A link shows where to log in or to pay, and leads to another domain.",
        3.0,
        _MEDIUM,
        _MARKUP,
        sign=signs.account_mismatch,
    ),
    ThreatRule(
        "link-to-ip-address",
        "A link leads to a bare IP address of the internet.",
        3.0,
        _MEDIUM,
        _MARKUP,
        sign=signs.public_address,
    ),
    ThreatRule(
        "link-to-hidden-address",
        "A URL has an IP address that is written as one number, or in hexadecimal or octal digits.",
        5.0,
        _HIGH,
        _URLS,
        (
            r"(?im)^https?://(?:[^/@\s]*@)?(?:0x[0-9a-f]{2,8}|\d{8,10}|0[0-7]{3}\.[0-7.]+)(?:[:/?#]|$)",
            r"(?im)^https?://(?:[^/@\s]*@)?(?:0x[0-9a-f]{1,2}\.){3}0x[0-9a-f]{1,2}(?:[:/?#]|$)",
        ),
    ),
    ThreatRule(
        "link-lookalike",
        "A link leads to a domain of letters that look like others.",
        6.0,
        _HIGH,
        _MARKUP,
        sign=signs.lookalike,
    ),
    ThreatRule(
        "link-userinfo",
        "A URL has a domain before an @, where it says nothing about where the link leads.",
        5.0,
        _HIGH,
        _URLS,
        (
            r"(?im)^https?://[^/?#@\s]*\.(?:com|net|org|info|biz|gov|edu|[a-z]{2})(?:[:%&][^/?#@\s]*)?@",
        ),
    ),
    ThreatRule(
        "link-to-program",
        "A URL leads to a program.",
        1.0,
        _LOW,
        _URLS,
        (
            r"(?im)^https?://[^\s?#]+\.(?:bat|cmd|exe|hta|iso|jar|lnk|msi|ps1|scr|vbs|wsf)(?:[?#]|$)",
        ),
    ),
    ThreatRule(
        "link-to-script-file",
        "A URL leads to a file that Windows runs as a script.",
        4.0,
        _MEDIUM,
        _URLS,
        (
            r"(?im)^https?://[^\s?#]+/[^\s?#/]+\.(?:hta|lnk|scr|vbs|vbe|wsf|jse)(?:[?#]|$)",
            rf"(?im)^https?://{PUBLIC_IP}(?::\d+)?/[^\s?#]*\.(?:bat|cmd|exe|iso|jar|msi|ps1)(?:[?#]|$)",
            r"(?im)^(?:file:|smb:|\\\\)[/\\]*[^\s/\\]+\.[a-z0-9.]+[/\\]",
        ),
    ),
    ThreatRule(
        "other-address-shown",
        "The name in the From header is an address of another domain.",
        3.0,
        _MEDIUM,
        (Where.HEADERS,),
        sign=signs.other_address,
    ),
)

STRUCTURE_RULES: Final = (
    ThreatRule(
        "header-injection",
        "A header or the subject has an encoded line end and the beginning of another header.",
        6.0,
        _HIGH,
        (Where.SUBJECT, Where.HEADERS),
        (
            rf"(?i)%0a(?:\s|%20|%09)*{_HEADERS_TO_ADD}(?:\s|%20)*(?::|%3a)",
            rf"(?i)\\n{_HEADERS_TO_ADD}\s*:",
        ),
    ),
    ThreatRule(
        "hidden-header-injection",
        "An encoded word of a header hides a line end and another header.",
        10.0,
        _CRITICAL,
        (Where.HEADERS,),
        sign=signs.decoded_header,
    ),
    ThreatRule(
        "doubled-header",
        "A header that may stand once stands twice, so programs may show different mails.",
        2.5,
        _MEDIUM,
        _STRUCTURE,
        sign=signs.doubled_header,
    ),
    ThreatRule(
        "ambiguous-mime",
        "A part says twice what it is, so programs may show different mails.",
        3.0,
        _MEDIUM,
        _STRUCTURE,
        sign=signs.has_fault(ContentFault.DUPLICATE_HEADER),
    ),
    ThreatRule(
        "broken-mime",
        "The mail's parts cannot be told apart with certainty.",
        1.0,
        _LOW,
        _STRUCTURE,
        sign=signs.has_fault(ContentFault.BAD_BOUNDARY, ContentFault.NUL_BYTES),
    ),
    ThreatRule(
        "too-much-structure",
        "The mail has more parts, more depth or longer part headers than can be looked at.",
        6.0,
        _HIGH,
        _STRUCTURE,
        sign=signs.has_fault(
            ContentFault.TOO_MANY_PARTS, ContentFault.TOO_DEEP, ContentFault.HEADERS_CUT
        ),
    ),
    ThreatRule(
        "office-macros",
        "An attached document of an office suite has macros.",
        2.5,
        _MEDIUM,
        (Where.ATTACHMENT,),
        (
            r"(?im)(?:^|/)vbaproject\.bin$",
            r"(?im)\.(?:docm|dotm|xlsm|xltm|xlam|pptm|potm|ppam|sldm)\s*$",
        ),
    ),
    ThreatRule(
        "archive-with-its-password",
        "An encrypted archive comes with its password in the same mail.",
        5.0,
        _HIGH,
        (Where.ATTACHMENT,),
        sign=signs.given_password,
    ),
)
