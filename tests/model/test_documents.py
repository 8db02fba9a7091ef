# SPDX-License-Identifier: Apache-2.0
"""Documents of accounts: the quota."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiot.errors import StanzaError
from xiot.model.documents import Document, Quota, State, keep
from xiot.model.effects import Delete, Put

A = Document("me@h", "private", "a", b"x" * 100)


def test_document_is_put_and_an_empty_one_deleted() -> None:
    gone = Document("me@h", "private", "b", b"")
    assert keep(State(Quota(1000), True, 0, 0), [A, gone]) == [Put(A), Delete(gone)]


def test_octet_above_the_quota_is_refused_and_the_one_below_is_not() -> None:
    assert keep(State(Quota(A.size_bytes + 7), True, 7, 0), [A])
    with pytest.raises(StanzaError, match="resource-constraint"):
        keep(State(Quota(A.size_bytes + 6), True, 7, 0), [A])


def test_less_than_before_is_kept_above_a_quota_that_was_lowered() -> None:
    assert keep(State(Quota(10), True, 5000, A.size_bytes), [A]) == [Put(A)]


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.binary(max_size=300))
@pytest.mark.security(row=76)
def test_quota_is_never_passed(quota: int, used: int, data: bytes) -> None:
    document = Document("me@h", "vcard", "", data)
    try:
        effects = keep(State(Quota(quota), True, used, 0), [document])
    except StanzaError:
        assert data
        assert used + document.size_bytes > quota
    else:
        assert not data or (used + document.size_bytes <= quota and effects == [Put(document)])


def test_who_has_no_account_keeps_nothing() -> None:
    with pytest.raises(StanzaError, match="not-allowed"):
        keep(State(Quota(1000), False, 0, 0), [A])
