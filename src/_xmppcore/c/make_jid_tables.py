# SPDX-License-Identifier: Apache-2.0
"""Writes c/jid_tables.h: what c/jid.c may do to a character of a JID without a look at its neighbours.

    python src/_xmppcore/c/make_jid_tables.py

A character gets a flag for a part only if `_xmppcore.precis` makes the same one character of it wherever it stands, given that the
neighbours have that flag too and that combining classes are in order. So what joins with others, depends on context or on direction has
none, and c/jid.c calls it slow.

Made with Unicode 14.0, that of Python 3.11: newer Pythons know more characters, and these are slow. tests/core/test_jid_tables.py
compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unicodedata import (
    bidirectional,
    category,
    combining,
    decomposition,
    is_normalized,
    normalize,
    ucd_3_2_0,
    unidata_version,
)

from idna.idnadata import codepoint_classes
from idna.intranges import intranges_contain

from _xmppcore import precis

UNICODE = "14.0.0"
END = 0x32000  # nothing above this is assigned and allowed
BLOCK = 64
LOCAL, DOMAIN, RESOURCE, MARK = 1, 2, 4, 8

Record = tuple[int, int, int]
"""Flags; what to add in localparts and domainparts; canonical combining class."""

NOTHING: Record = (0, 0, 0)


def seconds() -> set[str]:
    """The characters that may join with one before them (NFC_Quick_Check = Maybe), Hangul aside, which RFC 8264 forbids in pieces."""
    found = set()
    for number in range(0x110000):
        parts = decomposition(chr(number)).split()
        if len(parts) == 2 and parts[0][0] != "<" and is_normalized("NFC", chr(number)):
            found.add(chr(int(parts[1], 16)))
    return found


def image(prepare: Callable[[str], str], character: str) -> str | None:
    """The one character that the part has in its place; None if there is not exactly one."""
    try:
        prepared = prepare(f"a{character}a")
    except ValueError:
        return None
    return prepared[1] if len(prepared) == 3 and prepared[0] == prepared[2] == "a" else None


def is_free(character: str, joining: set[str]) -> bool:
    """Whether the character means the same wherever it stands."""
    return (
        is_normalized("NFC", character)
        and normalize("NFKC", character) == character
        and character not in joining
        and bidirectional(character) not in ("R", "AL", "AN", "")
        and ucd_3_2_0.bidirectional(character) not in ("R", "AL", "AN")
        and ucd_3_2_0.combining(character) in (combining(character), 0 if ucd_3_2_0.category(character) == "Cn" else -1)
        and precis._property(character) not in ("CONTEXTJ", "CONTEXTO")
        and not any(intranges_contain(ord(character), codepoint_classes[kind]) for kind in ("CONTEXTJ", "CONTEXTO"))
    )


def record(number: int, joining: set[str]) -> Record:
    """What jid.c may do with a code point."""
    character = chr(number)
    if category(character) in ("Cn", "Cs", "Co") or not is_normalized("NFC", character):
        return NOTHING
    flags, new = 0, character
    for flag, prepare in ((LOCAL, precis.local), (DOMAIN, precis.domain), (RESOURCE, precis.resource)):
        found = image(prepare, character)
        if found is None or not is_free(found, joining) or len(found.encode()) > len(character.encode()):
            continue
        if flag == DOMAIN and found == ".":  # ends a label
            continue
        if flag == RESOURCE:
            flags |= flag if found == character else 0
        elif not flags or found == new:
            flags, new = flags | flag, found
    if character == "Σ":
        flags &= ~LOCAL  # small sigma or final sigma, as the neighbours are
    if not flags or (flags & RESOURCE and combining(character) != combining(new)):
        return NOTHING
    return flags | (MARK if category(new).startswith("M") else 0), ord(new) - number, combining(new)


def records() -> list[Record]:
    """Those of all code points below END."""
    joining = seconds()
    return [record(number, joining) if not 0xD800 <= number < 0xE000 else NOTHING for number in range(END)]


def lines(values: list[int]) -> str:
    """A table, as wide as a line may be."""
    out, line = [], "   "
    for value in values:
        if len(line) + len(f" {value},") > 120:
            out.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([*out, line])


def header(table: list[Record]) -> str:
    """The text of the file."""
    kinds = [NOTHING, *sorted(set(table) - {NOTHING})]
    numbers = [kinds.index(each) for each in table]
    blocks: dict[tuple[int, ...], int] = {}
    places = [blocks.setdefault(tuple(numbers[i : i + BLOCK]), len(blocks)) for i in range(0, END, BLOCK)]
    place = "uint8_t" if len(blocks) <= 256 else "uint16_t"
    entries = "\n".join(f"    {{{delta}, {combining_class}, {flags}}}," for flags, delta, combining_class in kinds)
    return f"""\
/* SPDX-License-Identifier: Apache-2.0 */
/* Made by make_jid_tables.py, which says what is in it: Unicode {UNICODE}, in three steps. */
#ifndef XC_JID_TABLES_H
#define XC_JID_TABLES_H

#include <stdint.h>

/* clang-format off */
enum {{ LOCAL_CHAR = {LOCAL}, DOMAIN_CHAR = {DOMAIN}, RESOURCE_CHAR = {RESOURCE}, MARK_CHAR = {MARK} }};

typedef struct {{
    int32_t add; /* in localparts and domainparts */
    uint8_t combining_class, flags;
}} char_kind;

#define TABLE_END {END:#x}u
#define TABLE_BLOCK {BLOCK}u

static const char_kind char_kinds[{len(kinds)}] = {{
{entries}
}};

static const {place} table_places[TABLE_END / TABLE_BLOCK] = {{
{lines(places)}
}};

static const uint8_t table_blocks[{len(blocks)} * TABLE_BLOCK] = {{
{lines([number for block in blocks for number in block])}
}};
/* clang-format on */

#endif
"""


if __name__ == "__main__":
    if unidata_version != UNICODE:
        raise SystemExit(f"the table is that of Unicode {UNICODE}, and this Python has {unidata_version}")
    Path(__file__).with_name("jid_tables.h").write_text(header(records()))
