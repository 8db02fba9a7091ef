# SPDX-License-Identifier: Apache-2.0
"""OutBuf: bytes come out as they went in, whatever the sizes; views do not outlive the bytes they show."""

from __future__ import annotations

import gc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import OutBuf, Router

SMALL, LARGE = 4096, 16384
FIRST, NEXT = SMALL - 24, LARGE - 24  # bytes that the first and each further block hold
PATTERN = Random(1).randbytes(70_000)

SIZES = st.one_of(
    st.integers(0, 40),
    st.sampled_from([FIRST - 1, FIRST, FIRST + 1, NEXT - 1, NEXT, NEXT + 1, 2 * NEXT, FIRST + NEXT]),
    st.integers(0, 70_000),
)


def content(out: OutBuf) -> bytes:
    return b"".join(out.buffers(10_000))


@given(st.lists(st.tuples(st.sampled_from(["write", "write", "sent"]), SIZES), max_size=25))
def test_queue_is_a_byte_string(steps: list[tuple[str, int]]) -> None:
    out, model = OutBuf(), b""
    for what, n in steps:
        if what == "write":
            out.write(PATTERN[:n])
            model += PATTERN[:n]
        else:
            n = min(n, len(model))
            out.sent(n)
            model = model[n:]
        assert len(out) == len(model)
        assert content(out) == model
        assert all(len(view) for view in out.buffers())


@pytest.mark.parametrize("first", [1, FIRST - 1, FIRST, FIRST + 1])
@pytest.mark.parametrize("second", [0, 1, NEXT - 1, NEXT, NEXT + 1])
def test_blocks_end_at_every_place(first: int, second: int) -> None:
    data = PATTERN[: first + second]
    for sent in {0, 1, first - 1, first, first + 1, FIRST - 1, FIRST, FIRST + 1, len(data) - 1, len(data)}:
        if not 0 <= sent <= len(data):
            continue
        out = OutBuf()
        out.write(data[:first])
        out.write(data[first:])
        out.sent(sent)
        assert content(out) == data[sent:]
        out.write(b"more")
        assert content(out) == data[sent:] + b"more"
        out.sent(len(out))
        assert out.buffers() == []


def test_first_block_is_small_and_the_next_are_large() -> None:
    out = OutBuf()
    out.write(b"x")
    out.write(PATTERN[: FIRST + NEXT])
    assert [len(view) for view in out.buffers()] == [FIRST, NEXT, 1]


def test_buffers_gives_at_most_limit_views() -> None:
    out = OutBuf()
    for _ in range(10):
        out.write(PATTERN)
    assert len(out.buffers()) == len(out.buffers(64)) > 40
    assert len(out.buffers(3)) == 3
    assert out.buffers(0) == []


def test_empty_queue_has_no_views() -> None:
    out = OutBuf()
    assert (len(out), out.buffers()) == (0, [])
    out.write(b"")
    assert (len(out), out.buffers()) == (0, [])
    out.sent(0)


def test_sent_refuses_more_than_there_is() -> None:
    out = OutBuf()
    out.write(b"abc")
    with pytest.raises(ValueError, match="4 bytes sent of 3 queued"):
        out.sent(4)
    with pytest.raises(OverflowError):
        out.sent(-1)
    assert content(out) == b"abc"


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_write_takes_what_is_like_bytes(data: bytes) -> None:
    out = OutBuf()
    out.write(data)
    assert content(out) == b"abc"
    with pytest.raises(TypeError):
        out.write("abc")  # type: ignore[arg-type]


def test_views_are_read_only() -> None:
    out = OutBuf()
    out.write(b"abc")
    assert out.buffers()[0].readonly


def released(view: memoryview) -> bool:
    try:
        bytes(view)
    except ValueError:
        return True
    return False


def test_views_are_released_by_sent_and_by_the_next_buffers() -> None:
    out = OutBuf()
    out.write(b"abc")
    views = out.buffers()
    again = out.buffers()
    assert released(views[0])
    assert not released(again[0])
    out.sent(1)
    assert released(again[0])


@pytest.mark.parametrize("make", [OutBuf, lambda: Router().link().out])
def test_views_are_released_with_the_queue(make: type[OutBuf]) -> None:
    out = make()
    out.write(PATTERN)
    views = out.buffers()
    del out
    gc.collect()
    assert all(map(released, views))


def test_views_are_released_with_the_link() -> None:
    router = Router()
    link = router.link()
    link.write(PATTERN)
    out = link.out
    views = out.buffers()
    del link
    gc.collect()
    assert all(map(released, views))
    assert len(out) == 0
    out.write(b"its own queue now")
    assert content(out) == b"its own queue now"


def test_sent_blocks_are_used_again_by_other_links() -> None:
    router = Router()
    links = [router.link() for _ in range(3)]
    for round_ in range(300):
        for i, link in enumerate(links):
            link.write(PATTERN[: (round_ * 977 + i * 5000) % 60_000])
        for i, link in enumerate(links):
            n = (round_ * 977 + i * 5000) % 60_000
            assert content(link.out) == PATTERN[:n]
            link.out.sent(n)
