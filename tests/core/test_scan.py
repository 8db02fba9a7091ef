# SPDX-License-Identifier: Apache-2.0
"""The scan kernels: the scalar one against Python's own means, every other one against the scalar one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import scan
from tests.shared import CORE, ROOT, compiler, missing, program

LENGTHS = range(131)
ALIGNMENTS = range(33)
TEXT_STOPS = set(b"<&]") | set(range(0x20)) - set(b"\t\n\r")
FAST = scan.kernels()[1:]
CHARACTERS = st.characters().map(lambda c: c.encode("utf-8", "surrogatepass"))

# Characters at the borders of the UTF-8 lengths and of the ranges that are none.
BORDERS = [0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0x10000, 0x10FFFF, 0xFDD0, 0x1FFFE]
INVALID = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2A", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe1A", b"\xe1\x80A",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf1A",
    b"\xf1\x80A", b"\xf1\x80\x80A", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
]  # fmt: skip


def valid_prefix(data: bytes) -> tuple[int, bool]:
    """What `utf8` has to answer, by Python's decoder."""
    try:
        text, end, bad = data.decode(), len(data), False
    except UnicodeDecodeError as error:
        text, end, bad = data[: error.start].decode(), error.start, error.reason != "unexpected end of data"
    for i, character in enumerate(text):
        if character in "\ufffe\uffff":
            return len(text[:i].encode()), True
    return end, bad


def stop(data: bytes, start: int, stops: set[int]) -> int:
    return next((i for i in range(start, len(data)) if data[i] in stops), len(data))


def test_scalar_is_there_and_a_faster_kernel_on_x86() -> None:
    assert scan.kernels()[0] == "scalar"
    assert scan.default() in scan.kernels()
    if os.uname().machine == "x86_64":
        assert "sse2" in FAST
        assert ("avx2" in FAST) == (" avx2 " in Path("/proc/cpuinfo").read_text())
        assert scan.default() == FAST[-1]


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="no such kernel"):
        scan.text("mmx", b"")


@pytest.mark.parametrize("name", [*scan.kernels(), "none-such"])
def test_environment_names_the_kernel(name: str) -> None:
    code = "from _xmppcore import scan; print(scan.default())"
    environment = {**os.environ, "XMPPCORE_KERNEL": name, "PYTHONPATH": os.pathsep.join(sys.path)}
    used = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip()
    assert used == (name if name in scan.kernels() else scan.kernels()[-1])


@given(st.binary(max_size=100), st.integers(0, 100))
def test_scalar_text_stops_at_markup_and_controls(data: bytes, start: int) -> None:
    start = min(start, len(data))
    assert scan.text("scalar", data, start) == stop(data, start, TEXT_STOPS)


@given(st.binary(max_size=100), st.integers(0, 100), st.sampled_from("'\""))
def test_scalar_value_stops_at_its_quote_markup_and_low_bytes(data: bytes, start: int, quote: str) -> None:
    start = min(start, len(data))
    assert scan.value("scalar", data, quote, start) == stop(data, start, set(b"<&") | {ord(quote)} | set(range(0x20)))


@given(st.lists(st.one_of(CHARACTERS, st.binary(max_size=4))).map(b"".join))
def test_scalar_utf8_agrees_with_python(data: bytes) -> None:
    assert scan.utf8("scalar", data) == valid_prefix(data)


def test_scalar_utf8_knows_every_sequence_of_two_bytes_and_every_border() -> None:
    for a in range(256):
        for b in range(256):
            assert scan.utf8("scalar", bytes([a, b])) == valid_prefix(bytes([a, b]))
    tails = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    for a in range(0xC0, 0x100):
        for b in tails:
            for c in tails:
                for d in tails:
                    data = bytes([a, b, c, d])
                    assert scan.utf8("scalar", data) == valid_prefix(data), data


@pytest.mark.parametrize("bad", INVALID, ids=bytes.hex)
@pytest.mark.parametrize("kernel", scan.kernels())
def test_invalid_sequence_is_found_wherever_it_stands(kernel: str, bad: bytes) -> None:
    for before in range(70):
        for fill in (b"a", "é".encode()):
            data = fill * before
            assert scan.utf8(kernel, data + bad + b"a" * 70) == (len(data), True)
            for n in range(1, len(bad)):  # an unfinished character is no error yet, unless its bytes are wrong already
                assert scan.utf8(kernel, data + bad[:n]) == valid_prefix(data + bad[:n])


@pytest.mark.parametrize("kernel", scan.kernels())
def test_character_cut_off_at_the_end_is_unfinished(kernel: str) -> None:
    for code in BORDERS[1:]:
        character = chr(code).encode()
        for before in range(70):
            for n in range(1, len(character)):
                assert scan.utf8(kernel, b"a" * before + character[:n]) == (before, False)
            assert scan.utf8(kernel, b"a" * before + character) == (before + len(character), False)


@pytest.mark.parametrize("kernel", FAST)
def test_kernel_equals_scalar_at_each_length_and_alignment(kernel: str) -> None:
    random = Random(1)
    for length in LENGTHS:
        for alignment in ALIGNMENTS:
            filler = bytes(random.choices(b"<&]'\"\0\x1f", k=alignment))
            plain = bytes(random.choices(b"abc \t\n\r>/=;\x7f\x80\xff", k=length))
            data = filler + plain
            if length:
                at = random.randrange(length)
                data = data[: alignment + at] + bytes([random.randrange(256)]) + data[alignment + at + 1 :]
            assert scan.text(kernel, data, alignment) == scan.text("scalar", data, alignment)
            for quote in "'\"":
                assert scan.value(kernel, data, quote, alignment) == scan.value("scalar", data, quote, alignment)
            text = "".join(random.choices("abcdefghijklmnop", k=length)).encode()
            if length % 2:
                text = "".join(random.choices("abcdefghé日\U0001f600", k=length)).encode()[:length]
            if length and random.random() < 0.5:
                at = random.randrange(length)
                text = text[:at] + random.choice([*INVALID, bytes([random.randrange(256)])]) + text[at:]
            assert scan.utf8(kernel, filler + text, alignment) == scan.utf8("scalar", filler + text, alignment)


@pytest.mark.parametrize("kernel", FAST)
@given(data=st.binary(max_size=200), start=st.integers(0, 200))
def test_kernel_equals_scalar_on_any_bytes(kernel: str, data: bytes, start: int) -> None:
    start = min(start, len(data))
    assert scan.text(kernel, data, start) == scan.text("scalar", data, start)
    assert scan.value(kernel, data, '"', start) == scan.value("scalar", data, '"', start)
    assert scan.utf8(kernel, data, start) == scan.utf8("scalar", data, start)


@pytest.mark.parametrize("kernel", scan.kernels())
def test_every_byte_is_judged_alike_at_every_place_of_a_register(kernel: str) -> None:
    for byte in range(256):
        for at in range(40):
            data = b"x" * at + bytes([byte]) + b"x" * 40
            assert scan.text(kernel, data) == (at if byte in TEXT_STOPS else len(data))
            assert scan.value(kernel, data, "'") == (at if byte < 0x20 or byte in b"<&'" else len(data))


def kernels_program(cc: str, folder: Path, *flags: str) -> Path:
    """tests/core/kernels.c, built into `folder`."""
    built = folder / "kernels"
    sources = [ROOT / "tests/core/kernels.c", CORE / "scan.c"]
    subprocess.run([cc, "-O2", "-std=gnu11", *flags, f"-I{CORE}", *sources, "-o", built], check=True)
    return built


def test_kernels_keep_to_what_they_may_read(tmp_path: Path) -> None:
    """In C, up to the last byte before a page that nobody may touch."""
    assert subprocess.check_output([kernels_program(compiler(), tmp_path)], text=True).split() == scan.kernels()


def test_neon_kernel_equals_scalar(tmp_path: Path) -> None:
    """On any machine: under an emulator."""
    cc, emulator = program("aarch64-linux-gnu-gcc"), program("qemu-aarch64")
    if not Path("/usr/aarch64-linux-gnu/lib/libc.a").exists():
        missing("no C library for aarch64 (Debian package libc6-dev-arm64-cross)")
    built = kernels_program(cc, tmp_path, "-static")
    assert subprocess.check_output([emulator, built], text=True).split() == ["scalar", "neon"]
