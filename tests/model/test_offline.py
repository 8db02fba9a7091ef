# SPDX-License-Identifier: Apache-2.0
"""How much is kept for somebody who is not there (XEP-0160)."""

import pytest

from xiot.errors import StanzaError
from xiot.model.offline import OfflineLimits, keep
from xiot.store.memory import MemoryTransaction, _Log

OWNER = "juliet@example.net"


@pytest.mark.parametrize(
    ("limits", "fits"),
    [(OfflineLimits(3, 30), True), (OfflineLimits(2, 30), False), (OfflineLimits(3, 29), False)],
)
@pytest.mark.security(row=76)
def test_one_more_is_kept_if_it_fits_in_number_and_bytes(limits: OfflineLimits, fits: bool) -> None:
    store = MemoryTransaction(_Log()).offline
    for _ in range(2):
        store.put(OWNER, b"x" * 10)
    if fits:
        assert keep(store, OWNER, b"x" * 10, limits) > 0
    else:
        with pytest.raises(StanzaError, match="service-unavailable"):
            keep(store, OWNER, b"x" * 10, limits)
    assert store.usage(OWNER)[0] == 2 + fits


def test_others_do_not_count() -> None:
    store = MemoryTransaction(_Log()).offline
    store.put("romeo@example.net", b"x" * 100)
    assert keep(store, OWNER, b"x", OfflineLimits(1, 1)) > 0
