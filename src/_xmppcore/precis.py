# SPDX-License-Identifier: Apache-2.0
"""What RFC 7622 makes of the parts of a JID, beyond ASCII: PRECIS (RFC 8265), IDNA2008 (RFC 5891), addresses.

Theory of operation.  This is the definition, in plain Python; c/jid.c has the plain cases of it, by tables made from here
(c/make_jid_tables.py), and asks here for the others.

Older servers prepare by RFC 6122: stringprep on Unicode 3.2, IDNA2003. What they make one name of can be two by RFC 7622, and the other way
round (sharp s, final sigma, joiners, full width in resources). One name that means two accounts, depending on whom one asks, is a way
to be taken for somebody else. So a part is accepted if and only if both make the same of it; for what Unicode 3.2 did not know, older
servers do nothing, so that new characters are accepted where RFC 7622 does nothing to them either.

All functions: from text to prepared text, ValueError if there is none, in time linear in the length of the text.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from itertools import groupby
from stringprep import (
    in_table_a1,
    in_table_b1,
    in_table_c3,
    in_table_c4,
    in_table_c5,
    in_table_c6,
    in_table_c7,
    in_table_c8,
    in_table_c9,
    in_table_c12,
    in_table_c22,
    in_table_d1,
    in_table_d2,
    map_table_b2,
)
from unicodedata import bidirectional, is_normalized, normalize, ucd_3_2_0

import idna
from precis_i18n import get_profile
from precis_i18n.context import context_rule_error
from precis_i18n.derived import derived_property

PART_MAX = 1023  # octets, RFC 7622 section 3.1
LABEL_MAX = 63  # octets, RFC 1035 section 2.3.4
DOMAIN_MAX = 253  # octets in A-label form: the 255 of RFC 1035 are those of the wire form

NOT_LOCAL = frozenset("\"&'/:<>@")  # RFC 7622 section 3.3.1
_CACHED = 512  # prepared parts of a kind: at most some 5 MB, were all of them as long as can be
_OLD_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490 section 3.1

_USERNAME = get_profile("UsernameCaseMapped")
_OPAQUE = get_profile("OpaqueString")


@lru_cache(_CACHED)
def local(text):
    """RFC 7622 section 3.3: UsernameCaseMapped, and then no character of section 3.3.1, which the mapping may have brought in."""
    prepared = _enforce(_USERNAME, ("PVALID",), text)
    if not NOT_LOCAL.isdisjoint(prepared):
        raise ValueError("excluded character")
    return _agreed(text, prepared, fold=True)


@lru_cache(_CACHED)
def resource(text):
    """RFC 7622 section 3.4: OpaqueString."""
    return _agreed(text, _enforce(_OPAQUE, ("PVALID", "FREE_PVAL"), text), fold=False)


@lru_cache(_CACHED)
def domain(text):
    """RFC 7622 section 3.2: an IPv6 address in brackets, or U-labels and NR-LDH labels, mapped as RFC 5895 section 2 has it."""
    if text.startswith("["):
        return _ip_literal(text.removesuffix("."))

    # Lower case by code point: a capital sigma is a small one wherever it stands, as in all other mappings of domain names.
    narrow = _USERNAME.width_mapping_rule("".join([character.lower() for character in text]))
    mapped = normalize("NFC", narrow).replace("\u3002", ".").split(".")
    written = _OLD_DOTS.split(text)
    if len(mapped) > 1 and not mapped[-1] and not written[-1]:  # a final dot
        del mapped[-1], written[-1]
    # No A-label is shorter than its U-label, so this refuses nothing that the exact test would not; it bounds the work before that.
    if len(mapped) != len(written) or max(map(len, mapped)) > LABEL_MAX or sum(map(len, mapped)) > DOMAIN_MAX:
        raise ValueError("too long, or dots that come and go")
    labels, lengths = zip(*map(_label, mapped, written), strict=True)
    if max(lengths) > LABEL_MAX or sum(lengths) + len(lengths) - 1 > DOMAIN_MAX:
        raise ValueError("too long")
    return ".".join(labels)  # less than 1023 octets: one of four octets takes at least one of the 253


@lru_cache(_CACHED)
def _label(mapped, written):
    """The U-label or NR-LDH label of a label (RFC 5891 section 5), and how many octets its A-label has."""
    label = idna.ulabel(mapped)
    _agreed(label if mapped.startswith("xn--") else written, label, fold=True)
    return label, len(label) if label.isascii() else len("xn--") + len(label.encode("punycode"))


def _ip_literal(text):
    """An IPv6 address in brackets, as RFC 5952 writes it. RFC 9844 took back the zone identifiers of RFC 6874."""
    address = IPv6Address(text[1:-1])
    if text[-1] != "]" or address.scope_id is not None:
        raise ValueError("no IPv6 address in brackets")
    mapped = address.ipv4_mapped  # written out here, since Python's own form of these depends on its version
    return f"[{address}]" if mapped is None else f"[::ffff:{mapped}]"


# ---- RFC 8264


@lru_cache(4096)
def _property(character):
    """The PRECIS derived property of a character (RFC 8264 section 8): PVALID, FREE_PVAL, CONTEXTJ, CONTEXTO, ..."""
    return derived_property(ord(character), _OPAQUE.base.ucd)[0]


@lru_cache(4096)
def _stays(profile, character):
    """True if the profile leaves the character as it is wherever it stands, but for normalization."""
    try:
        return profile.enforce(character) == character and bidirectional(character) not in ("R", "AL", "AN")
    except ValueError:
        return False


def _enforce(profile, allowed, text):
    """Enforces a PRECIS profile (RFC 8264 section 7).

    `profile.enforce` would not do: it judges each occurrence of a character anew, and some by a look at the whole string, so that 340
    characters in a stanza's address could stop a server for 0.1 s.
    """
    if is_normalized("NFC", text) and all(_stays(profile, character) for character in set(text)):
        prepared = text
    else:
        prepared = profile.idempotence_check(profile.apply_five_rules(text))
        for character in set(prepared):
            kind = _property(character)
            if kind in ("CONTEXTJ", "CONTEXTO"):
                _check_context(profile, character, prepared)
            elif kind not in allowed:
                raise ValueError(f"U+{ord(character):04X} is not allowed")
    if not 0 < len(prepared.encode()) <= PART_MAX:
        raise ValueError("empty or too long")
    return prepared


def _check_context(profile, character, prepared):
    """Raises ValueError where the character stands in a context that RFC 5892 appendix A forbids."""
    places = [place for place, c in enumerate(prepared) if c == character]
    if character == "\u30fb" or character.isdecimal():  # appendix A.7 to A.9 look at the whole string, not at places
        del places[1:]
    if any(context_rule_error(prepared, place, profile.base.ucd) for place in places):
        raise ValueError(f"U+{ord(character):04X} is not allowed where it is")


# ---- RFC 3454, with the choices of RFC 6122 appendices A and B and of RFC 3491


_PROHIBITED = (
    in_table_c12,
    in_table_c22,
    in_table_c3,
    in_table_c4,
    in_table_c5,
    in_table_c6,
    in_table_c7,
    in_table_c8,
    in_table_c9,
)


def _agreed(text, prepared, fold):
    """Return `prepared`, which RFC 7622 made of `text`, if stringprep makes the same of it, and leaves it at that.

    So it must with the normalization of today, since many libraries know no other.
    """
    same = prepared == _stringprep(text, fold) and (prepared == text or prepared == _stringprep(prepared, fold))
    if not same or not is_normalized("NFKC", prepared):
        raise ValueError("not the same by RFC 6122")
    if any(_prohibited(character) for character in set(prepared)):
        raise ValueError("prohibited by RFC 6122")
    directions = [in_table_d1(character) for character in prepared]
    if any(directions) and not (directions[0] and directions[-1] and not any(map(in_table_d2, prepared))):
        raise ValueError("both directions, by RFC 3454 section 6")
    return prepared


def _stringprep(text, fold):
    """Mapping and normalization (RFC 3454 sections 3 and 4) by Unicode 3.2; what that did not know is left alone."""
    mapped = "".join([_mapped(character, fold) for character in text])
    runs = [(unknown, "".join(run)) for unknown, run in groupby(mapped, in_table_a1)]
    return "".join([run if unknown else ucd_3_2_0.normalize("NFKC", run) for unknown, run in runs])


@lru_cache(4096)
def _mapped(character, fold):
    """Table B.1, and table B.2 if `fold`, of RFC 3454."""
    if in_table_b1(character):
        return ""
    if not fold or in_table_a1(character):
        return character
    folded = map_table_b2(character)  # which knows lower case that came after Unicode 3.2
    return character if any(map(in_table_a1, folded)) else folded


@lru_cache(4096)
def _prohibited(character):
    """The tables of section 5 that all three profiles prohibit. (Those of ASCII: RFC 7622 forbids the same.)"""
    return any(table(character) for table in _PROHIBITED)
