# SPDX-License-Identifier: Apache-2.0
"""Prints what sessions that keep their tables take, in bytes each: at limits 64/64 and at 256/128. All of it: Python objects, coders, tables.

PYTHONMALLOC=malloc python -m tests.exi.memory
"""

from __future__ import annotations

import gc

from _xmppcore import exi
from tests.core.test_leaks import allocated_bytes

SESSIONS = 20
STANZAS = 400
LONG = b"<message xmlns='jabber:client'><body>" + b"what was said at length, " * 2000 + b"</body></message>"


def session(values: int, characters: int) -> exi.Session:
    options = exi.Options(value_max_length=characters, value_partition_capacity=values)
    return exi.Session(options, exi.xmpp_schemas(), keep=True)


def talk(one: exi.Session, other: exi.Session) -> None:
    """Both send so many stanzas, each with values that have not been there, and one that is larger than most."""
    for number in range(STANZAS):
        stanza = (
            f"<message xmlns='jabber:client' from='sender{number}@example.org/phone' to='u{number}@example.org' id='{number}'>"
            f"<body>what was said, number {number}</body></message>"
        )
        for here, there in ((one, other), (other, one)):
            there.decode(here.encode(stanza.encode() if number else LONG))


def bytes_each(values: int, characters: int) -> float:
    talk(session(values, characters), session(values, characters))  # what all sessions share
    gc.collect()
    before = allocated_bytes()
    sessions = [session(values, characters) for _ in range(SESSIONS)]
    for one, other in zip(sessions[::2], sessions[1::2], strict=True):
        talk(one, other)
    gc.collect()
    return (allocated_bytes() - before) / SESSIONS


if __name__ == "__main__":
    print(bytes_each(64, 64), bytes_each(256, 128))
