# SPDX-License-Identifier: Apache-2.0
"""c/jid_tables.h against the Python that it is made from, and what c/jid.c does with it against the same."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import precis
from _xmppcore.jid import _prepare

C = Path(__file__).parents[2] / "src/_xmppcore/c"
LONG = os.environ.get("XIOT_SOAK") == "1"
OK, SLOW = 0, 1

PARTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "local": ("{}@d", precis.local),
    "domain": ("{}", precis.domain),
    "resource": ("d/{}", precis.resource),
}


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_jid_tables", C / "make_jid_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_python(part: str, text: str) -> str | None:
    try:
        return PARTS[part][1](text)
    except ValueError:
        return None


def check(part: str, text: str) -> bool:
    """Whether C has an answer, which then is that of Python."""
    template = PARTS[part][0]
    code, prepared, _ = _prepare(template.format(text).encode())
    if code == OK:
        assert prepared.decode() == template.format(by_python(part, text)), (part, text)
    elif code != SLOW:
        assert by_python(part, text) is None, (part, text)
    return code == OK


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the table is that of another Unicode")
def test_table_is_what_its_maker_writes_today() -> None:
    make = maker()
    text = (C / "jid_tables.h").read_text()
    if LONG:
        assert text == make.header(make.records())
        return
    tables = {
        name: re.findall(r"-?\d+", body) for name, body in re.findall(r"(\w+)\[[^]]*\] = \{\n(.*?)\n\};", text, re.S)
    }
    kinds = [tuple(map(int, line)) for line in zip(*[iter(tables["char_kinds"])] * 3, strict=True)]
    places, blocks = ([int(number) for number in tables[name]] for name in ("table_places", "table_blocks"))
    joining = make.seconds()
    for number in [
        *range(0x600),
        *random.sample(range(0x600, 0xD800), 1000),
        *random.sample(range(0xE000, make.END), 500),
    ]:
        delta, combining_class, flags = kinds[blocks[places[number // make.BLOCK] * make.BLOCK + number % make.BLOCK]]
        assert (flags, delta, combining_class) == make.record(number, joining), f"U+{number:04X}"


@pytest.mark.parametrize("part", PARTS)
def test_every_character_is_prepared_as_python_does_it(part: str) -> None:
    """Alone, between others, and beside itself; where Python knows more, C is slow."""
    numbers = range(0x110000) if LONG else [*range(0x80, 0x600), *random.sample(range(0x600, 0x32000), 2000)]
    plain = 0
    for number in numbers:
        if not 0xD800 <= number < 0xE000 and chr(number) not in "@/.":
            plain += check(part, chr(number))
            check(part, f"x{chr(number)}")
            check(part, f"é{chr(number)}{chr(number)}é")
    assert plain > len(numbers) // 20


# Marks of several classes, letters that join with marks, capitals, other widths and scripts.
LETTERS = "aBéÉñΣσαΩжЯ漢아あアａＺ-1 हिन्दीকোবাংলাไทยก็ኢ😀♚ʼ"
MARKS = "\u0300\u0301\u0323\u0327\u0330\u0345\u0360\u05b0\u064b\u094d\u0e48\u0f39\u302a\u3099\U0001d165\U000110ba"
TEXT = st.text(
    st.one_of(st.sampled_from(LETTERS + MARKS), st.characters(codec="utf-8", exclude_characters="@/")),
    min_size=1,
    max_size=20,
)
ENDLESS = st.text(st.sampled_from("aé漢😀ü-b"), min_size=50, max_size=400)


@given(st.one_of(TEXT, ENDLESS))
def test_any_text_is_prepared_as_python_does_it(text: str) -> None:
    for part in PARTS:
        check(part, text)


@given(st.lists(st.text(st.sampled_from("aéÉ漢z-ÿ0Ж"), min_size=1, max_size=70), min_size=1, max_size=8))
def test_labels_have_the_length_that_python_counts(labels: list[str]) -> None:
    check("domain", ".".join(labels))


def test_longest_labels_are_plain_and_longer_ones_are_not() -> None:
    assert check("domain", "é" * 57)
    assert not check("domain", "é" * 58)
    longest = ("ü" + "a" * 14 + ".") * 10 + "a" * 23
    assert check("domain", longest)
    assert not check("domain", longest + "a")
