# SPDX-License-Identifier: Apache-2.0
"""When a client that has lost its stream tries again, and when it does not."""

from __future__ import annotations

import random
from collections.abc import Iterator

from xiot.client.inbox import Overrun
from xiot.client.management import NotDurable
from xiot.errors import AuthError, StreamError

FIRST_S = 1.0  # the first try is made at once, the second after about this, each further one after twice as much,
CAP_S = 120.0  # but never more than this: a server that comes back has everybody again within two minutes
STEADY_S = 30.0  # a stream that lasted as long was a good one: after it the count starts anew

FINAL = frozenset(
    [
        "conflict",  # another client has taken our resource: it would be thrown out in turn
        "host-gone",
        "host-unknown",
        "not-authorized",
        "policy-violation",  # the same again would be the same offence
        "unsupported-encoding",
        "unsupported-feature",
        "unsupported-version",
    ]
)
"""The stream errors after which there is no point in trying again (RFC 6120 section 4.9.3)."""


def delays() -> Iterator[float]:
    """How long to wait before each try, in seconds: none, then longer and longer.

    Half of each is left to chance, so that the clients of a server that has gone down do not come back all at once.
    """
    yield 0.0
    delay = FIRST_S
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(2 * delay, CAP_S)


def is_final(error: Exception | None) -> bool:
    """Whether another try would end as this one has."""
    if isinstance(error, StreamError):
        return error.condition in FINAL
    if isinstance(error, AuthError):
        return error.condition != "temporary-auth-failure"
    return isinstance(error, Overrun | NotDurable)
