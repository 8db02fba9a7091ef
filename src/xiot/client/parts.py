# SPDX-License-Identifier: Apache-2.0
"""Readings in parts, each of which fits into a stanza."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from xiot.model.reading import Reading

STANZA_BYTES = 8 * 1024  # of data in one answer: every server takes 10,000 bytes (RFC 6120 section 13.12)


def parts(readings: Iterable[Reading]) -> list[list[Reading]]:
    """The same in parts for one stanza each; at least one, which may be empty."""
    found: list[list[Reading]] = [[]]
    room = STANZA_BYTES
    for piece in chain.from_iterable(map(_pieces, readings)):
        size = size_of(piece)
        if size > room and found[-1]:
            found.append([])
            room = STANZA_BYTES
        room -= size
        found[-1].append(piece)
    return [list(joined(part)) for part in found]


def joined(readings: Iterable[Reading]) -> Iterator[Reading]:
    """What stands one after the other with the same timestamp, as one reading."""
    for timestamp, same in groupby(readings, key=lambda reading: reading.timestamp):
        pieces = list(same)
        fields = tuple(field for piece in pieces for field in piece)
        yield Reading(timestamp, fields, tuple(error for piece in pieces for error in piece.errors))


def _pieces(reading: Reading) -> Iterator[Reading]:
    """The reading with one field or one error at a time, none of them too long."""
    if not reading.fields and not reading.errors:
        yield reading
    for error in reading.errors:
        yield Reading(reading.timestamp, (), (error[:1000],))
    for field in reading:
        piece = Reading(reading.timestamp, (field,))
        too_long = Reading(reading.timestamp, (), (f"{field.name[:1000]}: too long to be sent",))
        yield piece if size_of(piece) <= STANZA_BYTES else too_long


def size_of(reading: Reading) -> int:
    """About how many bytes it is as XML, at most."""
    texts = [*reading.errors, *(text for f in reading for text in (f.name, f.text, f.unit or "", f.data_type or ""))]
    return 100 * (1 + len(reading)) + sum(6 * len(text) for text in texts)  # 6: &quot;
