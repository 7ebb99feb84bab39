"""What SPF, DKIM and DMARC said: the header that tells it, and DMARC's records and alignment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
    authentication_results_header,
)
from nodeagent.policy.engine.dmarc import (
    DmarcRecord,
    author_domain,
    judge_dmarc,
    parse_record,
)
from nodeagent.policy.model import Header

NONE, QUARANTINE, REJECT = DmarcPolicy.NONE, DmarcPolicy.QUARANTINE, DmarcPolicy.REJECT


def header(results: AuthenticationResults) -> str:
    """Return the value of the header of relay.example."""
    return authentication_results_header(results, "relay.example")


def test_header_tells_all_three_in_the_words_of_the_rfc() -> None:
    """The methods, their results and what they are about."""
    results = AuthenticationResults(
        SpfCheck(Result.SOFTFAIL, "a.example"),
        (DkimCheck(Result.PASS, "b.example", "s1"), DkimCheck(Result.FAIL, "c.example", "s2")),
        DmarcCheck(Result.FAIL, "d.example", REJECT),
    )
    assert header(results) == (
        "relay.example; spf=softfail smtp.mailfrom=a.example; "
        "dkim=pass header.d=b.example header.s=s1; dkim=fail header.d=c.example header.s=s2; "
        "dmarc=fail (p=reject) header.from=d.example"
    )


@pytest.mark.parametrize(
    ("results", "value"),
    [
        (AuthenticationResults(), "relay.example; none"),
        (AuthenticationResults(dkim=()), "relay.example; dkim=none"),
        (AuthenticationResults(SpfCheck(Result.NONE)), "relay.example; spf=none"),
        (
            AuthenticationResults(SpfCheck(Result.PASS, "mx.example", is_of_helo=True)),
            "relay.example; spf=pass smtp.helo=mx.example",
        ),
        (
            AuthenticationResults(dkim=(DkimCheck(Result.PERMERROR),)),
            "relay.example; dkim=permerror",
        ),
    ],
)
def test_header_without_some_of_them(results: AuthenticationResults, value: str) -> None:
    """What was not asked is not told."""
    assert header(results) == value


@given(st.text(), st.text(), st.text())
def test_no_name_of_a_stranger_breaks_the_header(domain: str, selector: str, author: str) -> None:
    """It stays one line of printable ASCII with as many statements as there are checks."""
    results = AuthenticationResults(
        SpfCheck(Result.PASS, domain),
        (DkimCheck(Result.FAIL, domain, selector),),
        DmarcCheck(Result.NONE, author),
    )
    value = header(results)
    assert re.fullmatch(r"[ -~]*", value)
    assert len(value) < 998
    quoted = re.compile(r'"(?:[^"\\]|\\.)*"')
    assert quoted.sub("x", value).count(";") <= 3
    assert '"' not in quoted.sub("x", value)


def test_header_stays_within_a_line() -> None:
    """What has no room is left out as a whole."""
    many = tuple(DkimCheck(Result.FAIL, "d" * 250, "s" * 60) for _ in range(5))
    value = header(AuthenticationResults(SpfCheck(Result.PASS, "a.example"), many))
    assert len(value) <= 900
    assert value.count("dkim=fail") == 2
    assert value.endswith("s" * 60)


@pytest.mark.parametrize(
    ("results", "together"),
    [
        ([], Result.NONE),
        ([Result.PASS], Result.PASS),
        ([Result.FAIL, Result.PASS], Result.PASS),
        ([Result.FAIL, Result.TEMPERROR], Result.TEMPERROR),
        ([Result.PERMERROR, Result.FAIL], Result.FAIL),
        ([Result.PERMERROR], Result.PERMERROR),
        ([Result.POLICY], Result.NONE),
    ],
)
def test_one_good_signature_is_enough(results: list[Result], together: Result) -> None:
    """And what is not known is no failure."""
    checks = tuple(DkimCheck(result) for result in results)
    assert AuthenticationResults(dkim=checks).dkim_result is together
    assert AuthenticationResults().dkim_result is None


@pytest.mark.parametrize(
    ("texts", "record"),
    [
        (["v=DMARC1; p=reject"], DmarcRecord(REJECT, REJECT)),
        (["v=DMARC1;p=QUARANTINE;"], DmarcRecord(QUARANTINE, QUARANTINE)),
        (["v=DMARC1; p=none; sp=reject"], DmarcRecord(NONE, REJECT)),
        (
            ["v=DMARC1 ; p = reject ; adkim=s ; aspf=S"],
            DmarcRecord(REJECT, REJECT, is_dkim_strict=True, is_spf_strict=True),
        ),
        (["v=DMARC1; p=reject; pct=50"], DmarcRecord(QUARANTINE, QUARANTINE)),
        (["v=DMARC1; p=quarantine; sp=reject; pct=0"], DmarcRecord(NONE, QUARANTINE)),
        (["v=DMARC1; p=reject; pct=100"], DmarcRecord(REJECT, REJECT)),
        (["v=DMARC1; p=reject; pct=x"], DmarcRecord(REJECT, REJECT)),
        (["v=DMARC1; p=reject; sp=nonsense"], DmarcRecord(REJECT, REJECT)),
        (["v=DMARC1; p=nonsense; rua=mailto:a@b.example"], DmarcRecord(NONE, NONE)),
        (["v=spf1 -all", "v=DMARC1; p=reject"], DmarcRecord(REJECT, REJECT)),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], None),
        (["v=DMARC1"], None),
        (["v=DMARC1; p=nonsense"], None),
        (["p=reject; v=DMARC1"], None),
        (["v=DMARC2; p=reject"], None),
        (["", ";;;", "="], None),
        ([], None),
    ],
)
def test_record_is_read_as_rfc_7489_says(texts: list[str], record: DmarcRecord | None) -> None:
    """Among other texts, with unknown values, and more than one is none."""
    assert parse_record(texts) == record


@given(st.lists(st.text(alphabet="v=DMARC1; prejct:sp0\x00é"), max_size=3))
def test_no_text_breaks_the_reading_of_records(texts: list[str]) -> None:
    """Any TXT record of a stranger is read or passed over."""
    parse_record(texts)
    parse_record([f"v=DMARC1; {text}" for text in texts])


@pytest.mark.parametrize(
    ("values", "domain"),
    [
        ([" user@Example.com"], "example.com"),
        ([' "Doe, J." <user@example.com>'], "example.com"),
        ([" =?utf-8?q?J=C3=B6rg?= <j@b\u00fccher.example>"], "xn--bcher-kva.example"),
        ([" a@example.com, b@example.com"], "example.com"),
        ([" A\r\n\t<a@example.com>"], "example.com"),
        ([" Group: a@example.com;"], "example.com"),
        ([" a@example.com, b@example.org"], None),
        ([" a@example.com", " a@example.com"], None),
        ([], None),
        ([" "], None),
        ([" nobody"], None),
        ([" <>"], None),
        (["a@example.com" + " " * 5000], None),
    ],
)
def test_author_is_the_one_domain_in_from(values: list[str], domain: str | None) -> None:
    """A mail with several, or with none that can be read, has no author domain."""
    headers = [Header("From" if n else "FROM ", value) for n, value in enumerate(values)]
    assert author_domain([*headers, Header("To", " x@other.example")]) == domain


@given(st.text(alphabet='a@.,<>()":;\\ \r\n\u00e9\udcff', max_size=60))
def test_no_from_breaks_the_reading(value: str) -> None:
    """Any From gives a domain or none."""
    author_domain([Header("From", value)])


def organization(domain: str) -> str:
    """Return the last two labels."""
    return ".".join(domain.split(".")[-2:])


RELAXED = DmarcRecord(REJECT, QUARANTINE)
STRICT = DmarcRecord(REJECT, QUARANTINE, is_dkim_strict=True, is_spf_strict=True)
SPF_PASS, SPF_FAIL = SpfCheck(Result.PASS, "b.example.com"), SpfCheck(Result.FAIL, "b.example.com")
DKIM_PASS = DkimCheck(Result.PASS, "b.example.com", "s")
FOREIGN = SpfCheck(Result.PASS, "other.example"), (DkimCheck(Result.PASS, "other.example", "s"),)


@pytest.mark.parametrize(
    ("record", "spf", "dkim", "result"),
    [
        (RELAXED, SPF_PASS, (), Result.PASS),
        (RELAXED, SPF_FAIL, (DKIM_PASS,), Result.PASS),
        (RELAXED, SPF_FAIL, (), Result.FAIL),
        (RELAXED, *FOREIGN, Result.FAIL),
        (STRICT, SPF_PASS, (DKIM_PASS,), Result.FAIL),
        (STRICT, SpfCheck(Result.PASS, "a.example.com"), (), Result.PASS),
        (RELAXED, SpfCheck(Result.TEMPERROR, "a.example.com"), (), Result.TEMPERROR),
        (RELAXED, SpfCheck(Result.TEMPERROR, "other.example"), (), Result.FAIL),
        (RELAXED, SPF_FAIL, (DkimCheck(Result.TEMPERROR, "example.com"),), Result.TEMPERROR),
        (RELAXED, SpfCheck(Result.SOFTFAIL, "a.example.com"), (), Result.FAIL),
        (RELAXED, SpfCheck(Result.NONE), (), Result.FAIL),
        (RELAXED, SpfCheck(Result.PASS, ""), (), Result.FAIL),
    ],
)
def test_who_may_speak_for_the_author(
    record: DmarcRecord, spf: SpfCheck, dkim: tuple[DkimCheck, ...], result: Result
) -> None:
    """Aligned domains that pass do; what is not known is no failure."""
    assert judge_dmarc("a.example.com", (record, None), spf, dkim, organization) == DmarcCheck(
        result, "a.example.com", REJECT
    )


def test_record_of_the_organization_asks_by_its_subdomain_policy() -> None:
    """Where the domain itself has none."""
    found = judge_dmarc("a.example.com", (None, RELAXED), SPF_FAIL, (), organization)
    assert found == DmarcCheck(Result.FAIL, "a.example.com", QUARANTINE)


def test_without_a_record_nothing_is_said() -> None:
    """Not even when everything passes."""
    found = judge_dmarc("a.example.com", (None, None), SPF_PASS, (DKIM_PASS,), organization)
    assert found == DmarcCheck(Result.NONE, "a.example.com")
