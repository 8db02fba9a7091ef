# SPDX-License-Identifier: Apache-2.0
"""JIDs against RFC 7622: its examples, each rule, and other people's implementations of PRECIS and IDNA."""

from __future__ import annotations

import copy
import os
import pickle
import random
import re
import string
import stringprep
import subprocess
import time
import unicodedata
from collections.abc import Callable
from encodings.idna import nameprep
from pathlib import Path
from typing import Any

import idna
import precis_i18n
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from _xmppcore import JID, JidError
from _xmppcore.jid import _from_utf8, _prepare
from tests.shared import fuzz_target

OK, SLOW, BAD_LOCAL, BAD_DOMAIN, BAD_RESOURCE, TOO_LONG = range(6)
ROOT = Path(__file__).parents[2]
LONG = os.environ.get("XIOT_SOAK") == "1"

LOCAL = precis_i18n.get_profile("UsernameCaseMapped")
RESOURCE = precis_i18n.get_profile("OpaqueString")

# Text that comes close to being a JID far more often than chance would have it.
LIKELY = st.text(st.sampled_from("abXZ09" * 4 + "-..@/ \"&':<>[]_~\x00\x7f"), max_size=90)
LIKELY_UNICODE = st.text(
    st.one_of(
        st.sampled_from("abXZ09@/.-éÉßΣσςＡ＠：。xn--Ⅳ♚"),
        st.sampled_from("·lͅ͵׳״אא・アあ漢٠۰‌‍क्بّ١" + "\u0301\u0323\u3000\u00a0\u212a\u1100\uac00\u00ad\u0378"),
        st.characters(exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=25,
)
# Text that is a JID, or almost, once its characters are mapped.
SOUND = st.builds(
    "{}@{}/{}".format,
    st.text("aB0éÉßΣＡ漢アאب\u0301\u212a", min_size=1, max_size=9),
    st.text("aB0.éÉßΣＡ漢ア。．\u0301\u212a", min_size=1, max_size=9),
    st.text("aB0 éÉßΣＡ漢アאب♚Ⅳ\u3000\u0301\u212a", min_size=1, max_size=9),
)

Parts = tuple[str | None, str, str | None]


def ascii_model(text: str) -> Parts | str:
    """The parts of the prepared JID or the name of the first bad one: RFC 7622 in plain Python, for ASCII without A-labels."""
    bare, slash, resource = text.partition("/")
    local, at, domain = bare.partition("@") if "@" in bare else ("", "", bare)
    if at and not (1 <= len(local) <= 1023 and all("!" <= c <= "~" and c not in "\"&'/:<>@" for c in local)):
        return "local"
    domain = domain.removesuffix(".").lower()
    labels = domain.split(".")
    ldh = re.compile(r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    if len(domain) > 253 or not all(map(ldh.fullmatch, labels)):
        return "domain"
    if slash and not (1 <= len(resource) <= 1023 and all(" " <= c <= "~" for c in resource)):
        return "resource"
    return local.lower() if at else None, domain, resource if slash else None


def precis_model(part: str, text: str) -> str | None:
    """What precis_i18n and RFC 7622 section 3.3.1 make of a short local or resource part, if RFC 6122 agrees; None if it is bad."""
    try:
        prepared = (LOCAL if part == "local" else RESOURCE).enforce(text)
    except UnicodeEncodeError:
        return None
    if part == "local" and set(prepared) & set("\"&'/:<>@"):
        return None
    return prepared if stringprep_model(part, text) == stringprep_model(part, prepared) == prepared else None


def stringprep_model(part: str, text: str) -> str | None:
    """Nodeprep and Resourceprep of RFC 6122 appendices A and B, by way of Nameprep of RFC 3491 in Python's own words."""
    known = not any(map(stringprep.in_table_a1, text))
    assume(known)  # Python's tables give characters that came after Unicode 3.2 today's lower case
    try:
        if part == "local":
            return nameprep(text)
        mapped = "".join(c for c in text if not stringprep.in_table_b1(c))
        normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
        # With capitals put aside, Resourceprep is Nameprep.
        return normal if nameprep(normal) is not None else None
    except UnicodeError:
        return None


def parts(jid: JID) -> Parts:
    return jid.local, jid.domain, jid.resource


def outcome(make: Callable[..., JID], *arguments: object) -> Parts | str:
    """The parts of the JID, or the name of the part for which it is refused."""
    try:
        return parts(make(*arguments))
    except JidError as error:
        return error.part


def refused(text: str) -> str:
    with pytest.raises(JidError) as caught:
        JID(text)
    return caught.value.part


# ---- Examples of RFC 7622 section 3.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("juliet@example.com", ("juliet", "example.com", None)),
        ("juliet@example.com/foo", ("juliet", "example.com", "foo")),
        ("juliet@example.com/foo bar", ("juliet", "example.com", "foo bar")),
        ("juliet@example.com/foo@bar", ("juliet", "example.com", "foo@bar")),
        (r"foo\20bar@example.com", (r"foo\20bar", "example.com", None)),
        ("fussball@example.com", ("fussball", "example.com", None)),
        ("π@example.com", ("π", "example.com", None)),
        ("Σ@example.com/foo", ("σ", "example.com", "foo")),
        ("σ@example.com/foo", ("σ", "example.com", "foo")),
        ("king@example.com/♚", ("king", "example.com", "♚")),
        ("example.com", (None, "example.com", None)),
        ("example.com/foobar", (None, "example.com", "foobar")),
        ("a.example.com/b@example.net", (None, "a.example.com", "b@example.net")),
    ],
)
@pytest.mark.security(row=64)
def test_legal_example_of_the_rfc(text: str, expected: Parts) -> None:
    assert parts(JID(text)) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('"juliet"@example.com', "local"),
        ("foo bar@example.com", "local"),
        ("@example.com/", "local"),
        ("henryⅣ@example.com", "local"),
        ("♚@example.com", "local"),
        ("juliet@", "domain"),
        ("/foobar", "domain"),
    ],
)
@pytest.mark.security(row=64)
def test_illegal_example_of_the_rfc(text: str, part: str) -> None:
    assert refused(text) == part


def test_leading_space_in_resource_is_allowed_by_erratum_4560() -> None:
    assert JID("juliet@example.com/ foo").resource == " foo"


# ---- Splitting (section 3.2)


def test_first_slash_ends_the_bare_part_before_any_at_sign_counts() -> None:
    assert parts(JID("example.com/a@b/c")) == (None, "example.com", "a@b/c")
    assert parts(JID("a@example.com//")) == ("a", "example.com", "/")


def test_second_at_sign_is_no_part_of_a_domain() -> None:
    assert refused("a@b@example.com") == "domain"


def test_separators_are_found_before_mapping_makes_more_of_them() -> None:
    assert refused("juliet＠example.com") == "domain"
    assert refused("juliet@example.com／balcony") == "domain"
    assert refused("jul／iet@example.com") == "local"


@pytest.mark.parametrize(
    ("text", "part"), [("", "domain"), ("@", "local"), ("@a", "local"), ("a@", "domain"), ("a/", "resource")]
)
@pytest.mark.security(row=65)
def test_empty_part_is_refused(text: str, part: str) -> None:
    assert refused(text) == part


def test_part_that_mapping_empties_is_refused() -> None:
    assert refused("\u00ad@example.com") == "local"


# ---- Localpart (section 3.3)


def test_localpart_is_mapped_to_lower_case() -> None:
    assert JID("ROMEO@example.com") == JID("romeo@example.com")
    assert JID("ÉÀ@example.com").local == "éà"


@pytest.mark.parametrize("character", "\"&'/:<>@ \x00\x1f\x7f")
def test_localpart_excludes(character: str) -> None:
    for local in (f"a{character}b", f"{character}ab", f"é{character}"):
        assert outcome(JID.of, local, "example.com") == "local"


@pytest.mark.parametrize("wide", "＂＆＇／：＜＞＠")
def test_excluded_character_may_not_come_in_by_width_mapping(wide: str) -> None:
    assert refused(f"a{wide}b@example.com") == "local"


def test_localpart_is_normalized_and_its_width_mapped() -> None:
    assert JID("e\u0301@example.com").local == "\u00e9"
    assert JID("ＡＢ@example.com").local == "ab"


def test_localpart_obeys_the_bidi_rule() -> None:
    assert JID("אב@example.com").local == "אב"
    assert refused("אa@example.com") == "local"


@pytest.mark.parametrize("part", ["local", "resource"])
@pytest.mark.security(row=65)
def test_part_has_at_most_1023_octets(part: str) -> None:
    template = "{}@d.example/r" if part == "local" else "l@d.example/{}"
    for text in ("a" * 1023, "é" * 511 + "a"):
        assert getattr(JID(template.format(text)), part) == text
        assert refused(template.format(text + "a")) == part


def test_length_counts_after_normalization() -> None:
    assert len(JID("e\u0301" * 400 + "@example.com").local or "") == 400  # 1200 octets before, 800 after


@pytest.mark.security(row=65)
def test_longest_jid_has_3071_octets_and_may_come_with_a_final_dot() -> None:
    domain = ".".join(["d" * 61] * 4) + ".ddddd"
    jid = JID(f"{'l' * 1023}@{domain}./{'r' * 1023}")
    assert len(domain) == 253
    assert len(str(jid)) == 1023 + 1 + 253 + 1 + 1023
    assert refused("a" * 3073) == "jid"
    assert refused("é" * 1537) == "jid"


# ---- Domainpart (section 3.2)


def test_domain_is_mapped_to_lower_case() -> None:
    assert JID("EXAMPLE.Com/R").domain == "example.com"


def test_final_dot_is_stripped_once() -> None:
    assert str(JID("a@example.com./r")) == "a@example.com/r"
    assert str(JID("münchen.example.")) == str(JID("münchen.example。")) == "münchen.example"
    for text in (".", "..", "。", "example.com..", "münchen.example..", "a。.", "é.。"):
        assert refused(text) == "domain"


@pytest.mark.parametrize(
    "domain",
    [
        "a..b",
        ".a",
        "-a.b",
        "a-.b",
        "a.-b",
        "a.b-",
        "a_b",
        "a:b",
        "a\x00b",
        "a\x7fb",
        "a,b",
        "ab--c",
        "a.bc--d",
        "é..b",
        ".é",
        "-é",
        "é-",
        "aé--b",
    ],
)
def test_label_that_is_no_ldh_or_u_label_is_refused(domain: str) -> None:
    assert refused(domain) == "domain"
    assert refused(f"local.part.quite.long@{domain}/resource") == "domain"


def test_label_has_at_most_63_octets_in_a_label_form() -> None:
    assert JID("a" * 63 + ".b")
    assert refused("a" * 64 + ".b") == "domain"
    assert len(idna.alabel("é" * 57)) == 63
    assert JID("é" * 57).domain == "é" * 57
    assert refused("é" * 58) == "domain"


def test_domain_has_at_most_253_octets_in_a_label_form() -> None:
    for label, octets in (("a" * 22, 22), ("ü" + "a" * 14, 22)):
        assert len(idna.alabel(label)) == octets
        longest = f"{label}." * 10 + "a" * 23
        assert len(idna.encode(longest)) == 253
        assert JID(f"{longest}.").domain == longest
        assert refused(f"{longest}a") == "domain"


@pytest.mark.parametrize(
    "text",
    ["xn--mnchen-3ya.de", "XN--MNCHEN-3YA.DE", "münchen.de", "MÜNCHEN.DE", "mu\u0308nchen.de", "ｍünchen。de"],
)
def test_domains_that_are_the_same_are_prepared_alike(text: str) -> None:
    assert JID(text).domain == "münchen.de"


@pytest.mark.parametrize("label", ["xn--", "xn--a", "xn--abc-", "xn---bbk", "xn--99999999", "xn--" + "a" * 60, "xn--é"])
def test_false_a_label_is_refused(label: str) -> None:
    assert refused(f"{label}.example") == "domain"


def test_capital_sigma_in_a_domain_is_small_sigma_wherever_it_stands() -> None:
    assert JID("ΑΣ.gr") == JID("ασ.gr")


def test_compatibility_characters_are_refused_in_a_domain() -> None:
    assert refused("henryⅣ.example") == "domain"
    assert refused("♚.example") == "domain"


def test_ipv4_address_is_a_domain() -> None:
    assert JID("a@127.0.0.1/r").domain == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("[::1]", "[::1]"),
        ("[2001:DB8:0:0:0::0001].", "[2001:db8::1]"),
        ("[::FFFF:102:304]", "[::ffff:1.2.3.4]"),
        ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]"),
    ],
)
def test_ipv6_literal_is_written_as_rfc_5952_has_it(text: str, domain: str) -> None:
    assert JID(f"a@{text}/r").domain == domain


@pytest.mark.parametrize(
    "domain",
    [
        "[",
        "[]",
        "::1",
        "[::1",
        "::1]",
        "[1.2.3.4]",
        "[fe80::1%eth0]",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "[::é]",
        "[::1]:5222",
        "[::1]..",
        "［::1］",
    ],
)
def test_other_bracketed_domain_is_refused(domain: str) -> None:
    assert refused(f"a@{domain}/r") == "domain"


# ---- Resourcepart (section 3.4)


def test_resource_keeps_its_case() -> None:
    assert JID("a@b/FooBarÉ").resource == "FooBarÉ"


def test_resource_is_normalized_and_its_spaces_are_ascii() -> None:
    assert JID("a@b/e\u0301\u3000x").resource == "\u00e9 x"


@pytest.mark.parametrize("character", "\x00\t\n\x1f\x7f\u0085\u0378\u1100\u200b\ud800\ufffe")
def test_resource_excludes(character: str) -> None:
    assert outcome(JID("a@example.com").with_resource, f"x{character}y") == "resource"


# ---- Where preparations disagree: refused


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fußball@example.com", "local"),  # "fussball" by RFC 6122; legal in RFC 7622 section 3.5, as is the next
        ("ς@example.com/foo", "local"),
        ("ΝΙΚΟΣ@example.com", "local"),  # a final sigma by RFC 8265, another by RFC 3454
        ("straße.example", "domain"),
        ("xn--strae-oqa.example", "domain"),
        ("STRAẞE.example", "domain"),
        ("νίκος.example", "domain"),
        ("क्\u200dष.example", "domain"),  # a joiner is dropped by IDNA2003
        ("نامه\u200cای.example", "domain"),
        ("क्\u200dष@example.com", "local"),
        ("نامه\u200cای@example.com", "local"),
        ("a/क्\u200dष", "resource"),
        ("a/FooＢar", "resource"),  # kept by OpaqueString, ASCII by resourceprep
        ("a/x／y", "resource"),
        ("a/Ⅳ", "resource"),
        ("a/℀", "resource"),
        ("a/ﬁ", "resource"),
        ("a/x²", "resource"),
        ("a/…", "resource"),
        ("a/ᴬ", "resource"),  # of Unicode 4.0: only by the normalization of today
        ("a/\ufffc", "resource"),  # prohibited by RFC 6122
        ("a/\u1680x", "resource"),
        ("a/אa", "resource"),  # two directions
        ("a/א1", "resource"),
        ("א1@example.com", "local"),
        ("א1.example", "domain"),
        ("Ɂa@example.com", "local"),  # the small letter came after Unicode 3.2
        ("Ɂa.example", "domain"),
        ("Ⴀ@example.com", "local"),
        ("Ⴀ.example", "domain"),
        ("\U0002f868@example.com", "local"),  # Unicode's corrigendum 4
        ("\U0002f868.example", "domain"),
        ("a/\U0002f868", "resource"),
        ("a/\U00011099\U000110ba", "resource"),  # composed since Unicode 5.2
    ],
)
def test_part_of_which_rfc_6122_makes_something_else_is_refused(text: str, part: str) -> None:
    assert refused(text) == part


@pytest.mark.parametrize(
    "text",
    [
        "ɂa@example.com",
        "ა@example.com",
        "ɂa.example",
        "a/😀",
        "a/Ɂ",
        "a/\U0001109a",
        "ასა.example/ᲐბგĐ",
        "अनुच्छेद.example",
        "a/शर्मा’s “iPhone” – 1",
    ],
)
def test_characters_that_came_after_unicode_3_2_are_accepted_where_nothing_is_done_to_them(text: str) -> None:
    assert str(JID(text)) == text


@pytest.mark.parametrize("old", [r"d\27artagnan", r"foo\20bar", r"\5c20", r"a\40b", r"\2f", r"\xx", "\\"])
def test_escapes_of_xep_0106_are_plain_characters(old: str) -> None:
    """They are unescaped for display only; `\\2F` and `\\2f` are one, since a localpart has no case (XEP-0106 section 4.4)."""
    assert JID(f"{old}@example.com").local == old
    assert JID(f"{old}@example.com") == JID(f"{old.upper()}@example.com")
    assert JID(r"a\20b@example.com") != JID("a20b@example.com")


# Not a test of one's own against oneself: this is another one's RFC 6122.
@pytest.mark.parametrize("template", ["a{}b@d", "{}@d", "d/a{}b"])
def test_whatever_is_accepted_is_prepared_to_the_same_by_slixmpp(template: str) -> None:
    theirs = pytest.importorskip("slixmpp.jid")
    accepted = 0
    for number in range(0x80, 0x110000 if LONG else 0x3400):
        text = template.format(chr(number))
        prepared = outcome(JID, text)
        if isinstance(prepared, str):
            continue
        try:
            other = theirs.JID(text)
        except theirs.InvalidJID:  # unassigned in Unicode 3.2: refused, not taken for another
            assert stringprep.in_table_a1(chr(number))
            continue
        accepted += 1
        assert (other.local or None, other.domain, other.resource or None) == prepared
    assert accepted > 1000


# ---- The C code


@pytest.mark.parametrize(
    "octets",
    [
        b"a@xn--mnchen-3ya.de",
        b"[::1]",
        b"\xc3\xa9@xn--mnchen-3ya.de",
        *(text.encode() for text in ("e\u0301@b", "é<@b", "א@b", "a@．", "a@é．b", "ΑΣ@b", "ß@b", "a@b/ß\u200d", "a@b/é／", "a/\u3000", "é\u00b7@b", "a/\u030f\u0323")),
        *(b"a@b/" + broken for broken in (b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80")),
        b"\xc3@b",
    ],
)  # fmt: skip
def test_what_depends_on_the_whole_or_is_bad_beyond_ascii_is_slow(octets: bytes) -> None:
    assert _prepare(octets)[0] == SLOW


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("User@Example.Com./Res", "user@example.com/Res"),
        ("JÜRGEN@BÜCHER.example./Büro Ü", "jürgen@bücher.example/Büro Ü"),
        ("Юлия@ПОЧТА.рф/телефон", "юлия@почта.рф/телефон"),
        ("ＴＡＮＡＫＡ@日本語.jp/漢字", "tanaka@日本語.jp/漢字"),
        ("हिन्दी@example/हिन्दी", "हिन्दी@example/हिन्दी"),
        ("a@b/♚ 😀", "a@b/♚ 😀"),
        ("Σa@ΑΣ.gr", None),
    ],
)
def test_what_is_plain_beyond_ascii_needs_no_python(text: str, prepared: str | None) -> None:
    code, octets, _ = _prepare(text.encode())
    assert (code, octets.decode()) == ((OK, prepared) if prepared else (SLOW, ""))


def test_definite_error_is_told_in_the_order_of_the_parts() -> None:
    assert [_prepare(o)[0] for o in (b"a b@-/\x00", b"a@-/\x00", b"a@b/\x00", b"", b"a" * 3073)] == [
        BAD_LOCAL,
        BAD_DOMAIN,
        BAD_RESOURCE,
        BAD_DOMAIN,
        TOO_LONG,
    ]


@pytest.mark.parametrize("length", [*range(131), 1022, 1023, 1024, 3071, 3072, 3073])
def test_simd_and_scalar_code_agree_at_every_length(length: int) -> None:
    rng = random.Random(length)
    for alphabet in ("abcXYZ019", "ab.-XZ@/_ ", "ab.-@/&\x00\x7f[", "aé"):
        for _ in range(40):
            octets = bytearray("".join(rng.choices(alphabet, k=length)).encode("latin-1"))
            for separator, place in (("@", length // 3), ("/", 2 * length // 3)):
                if rng.random() < 0.7 and length:
                    octets[place] = ord(separator)
            assert _prepare(bytes(octets)) == _prepare(bytes(octets), scalar=True)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_every_place_is_judged_alike_by_simd_and_scalar_code(octet: int) -> None:
    template = b"some.User@Some-Plant.example/Some Device-1"
    for place in range(len(template)):
        octets = template[:place] + bytes([octet]) + template[place + 1 :]
        code, prepared, lengths = _prepare(octets)
        assert (code, prepared, lengths) == _prepare(octets, scalar=True)
        if octet < 0x80:
            expected = ascii_model(octets.decode())
            names = {BAD_LOCAL: "local", BAD_DOMAIN: "domain", BAD_RESOURCE: "resource"}
            if code == SLOW:  # '[' in front of a domain
                assert octet == ord("[")
            elif code == OK:
                assert expected == parts(JID(octets.decode()))
            else:
                assert expected == names[code]


@given(st.binary(max_size=100))
def test_any_octets_are_judged_alike_by_simd_and_scalar_code(octets: bytes) -> None:
    assert _prepare(octets) == _prepare(octets, scalar=True)


@pytest.mark.parametrize(
    "octets",
    [b"\xc3", b"\xc3@b", b"a@b/\xe2\x82", b"a@\xf0\x9f\x98", b"\xff@b", b"a@b/\xed\xa0\x80", b"a/\xc0\xaf"],
)
@pytest.mark.security(row=21)
def test_broken_utf8_is_refused_and_never_read_past(octets: bytes) -> None:
    with pytest.raises(JidError):
        _from_utf8(octets)


@given(LIKELY_UNICODE)
def test_jid_from_octets_is_that_from_text(text: str) -> None:
    assert outcome(_from_utf8, text.encode()) == outcome(JID, text)


@pytest.mark.security(row=(10, 21))
def test_c_code_stays_in_bounds_under_address_sanitizer(tmp_path: Path) -> None:
    program = fuzz_target("jid", ["jid"], tmp_path)
    rng = random.Random(7622)
    inputs = [tmp_path / str(number) for number in range(400)]
    for number, path in enumerate(inputs):
        alphabet = b"abcdXYZ019.-@/" + bytes(rng.choices(range(256), k=2))
        octets = bytes(rng.choices(alphabet, k=number % 80))
        if number % 2:
            octets = "".join(rng.choices("abÉé漢ЖΣ😀.-@/\u0301\u0323\U0010ffff", k=number % 60)).encode()[
                : 2 + number % 59
            ]
        path.write_bytes(octets)
    done = subprocess.run([program, *inputs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- Against models


@given(st.one_of(LIKELY, st.from_regex(r"([!-~]{1,20}@)?([a-zA-Z0-9.-]{1,40})(/[ -~]{1,20})?", fullmatch=True)))
def test_ascii_is_prepared_as_the_model_has_it(text: str) -> None:
    assume("xn--" not in text.lower() and "[" not in text)  # these have tests of their own
    assert outcome(JID, text) == ascii_model(text)


@given(st.one_of(st.text(string.printable, min_size=1, max_size=30), LIKELY_UNICODE))
@pytest.mark.security(row=64)
def test_local_and_resource_are_prepared_as_precis_i18n_does_it(text: str) -> None:
    local, resource = precis_model("local", text), precis_model("resource", text)
    assert outcome(JID.of, text, "d") == ("local" if local is None else (local, "d", None))
    assert outcome(JID.of, None, "d", text) == ("resource" if resource is None else (None, "d", resource))


@given(st.text(st.one_of(st.sampled_from("ab.-éßσ漢あ・אب"), st.characters(codec="utf-8")), min_size=1, max_size=12))
def test_domain_that_idna_calls_prepared_stays_as_it_is(text: str) -> None:
    try:
        prepared = idna.decode(idna.encode(text, strict=True), strict=True).removesuffix(".")
    except (idna.IDNAError, UnicodeError):
        return
    agreed = all(stringprep_model("local", label) == label for label in prepared.split("."))  # "ß" was once "ss"
    assert outcome(JID, text) == ((None, prepared, None) if agreed else "domain")


@given(st.one_of(LIKELY_UNICODE, SOUND.map(lambda text: text.partition("@")[2].partition("/")[0])))
def test_prepared_domain_is_one_that_idna_can_encode(text: str) -> None:
    prepared = outcome(JID.of, None, text)
    assert prepared == "domain" or len(idna.encode(prepared[1], strict=True)) <= 253


@given(st.one_of(LIKELY, LIKELY_UNICODE, SOUND))
@pytest.mark.security(row=64)
def test_prepared_jid_is_prepared_to_itself(text: str) -> None:
    prepared = outcome(JID, text)
    if isinstance(prepared, str):
        return
    jid = JID(text)
    assert JID(str(jid)) == jid
    assert str(JID(str(jid))) == str(jid)
    assert outcome(JID, str(jid)) == outcome(JID.of, *prepared) == prepared
    assert all(0 < len(part.encode()) <= 1023 for part in prepared if part is not None)


# ---- The object


def test_jid_of_a_jid_is_the_same_object() -> None:
    jid = JID("a@b/c")
    assert JID(jid) is jid


def test_jid_that_came_prepared_shares_its_text() -> None:
    text = "".join(["romeo@", "example.net/orchard"])
    assert str(JID(text)) is text


def test_subclass_of_str_is_taken_as_its_plain_text() -> None:
    class Text(str):
        __slots__ = ()

    assert type(str(JID(Text("a@b")))) is str
    assert type(str(JID(Text("é@b")))) is str
    assert JID.of(Text("a"), Text("b"), Text("c")) == JID(Text("a@b")).with_resource(Text("c"))


@pytest.mark.parametrize("arguments", [(), ("a", "b"), (b"a@b",), (None,), (1,)])
def test_jid_takes_one_str_or_jid(arguments: tuple[Any, ...]) -> None:
    for make in (JID, lambda *a: JID.__new__(JID, *a)):
        with pytest.raises(TypeError):
            make(*arguments)


def test_jid_without_text_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        object.__new__(JID)
    assert JID.__new__(JID, "A@b") == JID("a@b")


def test_jid_is_immutable() -> None:
    jid = JID("a@b/c")
    for name in ("local", "domain", "resource", "bare", "is_bare", "other"):
        with pytest.raises(AttributeError):
            setattr(jid, name, "x")


def test_bare_jid_is_its_own_bare_jid() -> None:
    full, host = JID("a@b/c"), JID("b")
    assert (full.is_bare, full.bare.is_bare, host.is_bare) == (False, True, True)
    assert full.bare == JID("a@b")
    assert full.bare is full.bare
    assert full.bare.bare is full.bare
    assert JID("b/c").bare == host
    assert parts(JID("é@b/c").bare) == ("é", "b", None)


def test_with_resource_puts_or_replaces_the_resource() -> None:
    for text in ("é@b", "é@b/x", "é@b/é"):
        assert str(JID(text).with_resource("Ы /@")) == "é@b/Ы /@"
    assert str(JID("b").with_resource("r")) == "b/r"
    with pytest.raises(JidError):
        JID("a@b").with_resource("")


def test_of_takes_unprepared_parts() -> None:
    assert JID.of("User", "MÜNCHEN.example.", "Res") == JID("user@münchen.example/Res")
    assert JID.of(None, "Example") == JID("example")
    assert JID.of(local="a", domain="b", resource="c") == JID("a@b/c")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("a@b", "c"), "local"),
        (("a/b", "c"), "local"),
        (("", "c"), "local"),
        (("\ud800", "c"), "local"),
        (("a", "b@c"), "domain"),
        (("a", "b/c"), "domain"),
        ((None, "b@c"), "domain"),
        ((None, ""), "domain"),
        ((None, "\ud800"), "domain"),
        ((None, "x" * 5000), "domain"),
        (("a", "b", ""), "resource"),
        (("a", "b", "é" * 3000), "resource"),
    ],
)
def test_of_never_lets_one_part_reach_into_another(arguments: tuple[str, ...], part: str) -> None:
    assert outcome(JID.of, *arguments) == part


def test_equality_is_between_jids_only() -> None:
    assert JID("A@b/c") == JID("a@B/c")
    assert JID("a@b/c") != JID("a@b/C")
    assert JID("a@b") != "a@b"
    assert JID("a@b") != JID("a@b/c")


def test_equal_jids_have_equal_hashes_and_are_one_key() -> None:
    sessions = {JID("A@b/c"): 1}
    sessions[JID("a@B/c")] = 2
    assert sessions == {JID("a@b/c"): 2}
    assert hash(JID("É@b")) == hash(JID("é@b"))
    assert "a@b/c" not in sessions


def test_order_is_that_of_the_text() -> None:
    texts = ["a@b", "a@b/c", "a@b/d", "b", "é@b"]
    assert sorted(map(JID, reversed(texts))) == [JID(text) for text in texts]
    with pytest.raises(TypeError):
        assert JID("a") < "b"  # type: ignore[operator]


def test_str_and_repr() -> None:
    jid = JID("A@b/C")
    assert f"{jid} {jid!r}" == "a@b/C JID('a@b/C')"
    assert eval(repr(jid)) == jid


@pytest.mark.parametrize("text", ["a@b/c", "é@münchen.example/♚", "[::1]"])
def test_jid_can_be_pickled_and_copied(text: str) -> None:
    jid = JID(text)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(jid, protocol)) == jid
    assert copy.copy(jid) is jid
    assert copy.deepcopy([jid])[0] is jid


def test_error_says_the_part_but_not_the_text_and_can_be_pickled() -> None:
    with pytest.raises(ValueError) as caught:
        JID("sec\nret@example.com")
    error = caught.value
    assert isinstance(error, JidError)
    assert error.part == "local"
    assert "localpart" in str(error)
    assert "ret" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# ---- Cost


@pytest.mark.parametrize(
    "unit",
    ["・あ", "٠١٢٣٤٥٦٧٨٩", "a\u0301", "ب\u0651", "é", "क्\u200d", "l·l"],
    ids=["katakana dot", "arabic digits", "decomposed", "transparent", "latin", "joiner", "middle dot"],
)
def test_longest_part_takes_milliseconds(unit: str) -> None:
    seconds = []
    for number in range(3):  # a text that no cache knows, each time
        text = f"example.com/{unit * (1000 // len(unit.encode()) - number)}"
        start = time.process_time()
        outcome(JID, text)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.03
