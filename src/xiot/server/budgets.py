# SPDX-License-Identifier: Apache-2.0
"""How often a login may fail: by address and by account, in a sliding window and bounded memory (security.md row 43).

Theory of operation. A `Budget` is a bucket for each key, which a failure fills and time empties: `most` failures in
`window_s` seconds are let through at once, and then one each ``window_s / most``. Buckets that have run empty are
forgotten; of more than `MAX_KEYS`, the one that failed longest ago goes.

Who has used up the budget of an *address* (of IPv6: of the /64, which is one customer's) is turned away, whatever it
asks for. The budget of an *account* is for guesses that come from many addresses. So that it is no means to keep the
owner out, it does not count for who has logged in from this address before, for tokens and for certificates, which
nobody can guess; since only guesses that were let through fill the bucket, it is never closed for longer than one step;
and what an address sends beyond its own budget does not count, so one address alone closes no account.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

MAX_KEYS = 10_000
"""Buckets of one budget: about a megabyte."""


class Budget:
    """Buckets of one kind."""

    def __init__(self, most: int, window_s: float) -> None:
        """Let through `most` failures of one key in `window_s` seconds; 0 is off."""
        self._window_s = window_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # failures, and when they were counted

        self.configure(most)

    def configure(self, most: int) -> None:
        """Let through so many from now on."""
        self._most = most
        self._rate = most / self._window_s

    def spent(self, key: str, now: float) -> bool:
        """Return whether `key` has no failure left."""
        return bool(self._most) and key in self._buckets and self._level(key, now) > self._most - 1

    def failed(self, key: str, now: float) -> None:
        """Count a failure."""
        if not self._most:
            return
        level = self._level(key, now)
        self._buckets[key] = min(level + 1, self._most), now
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)

    def _level(self, key: str, now: float) -> float:
        failures, at = self._buckets.get(key, (0.0, now))
        level = failures - (now - at) * self._rate
        if level <= 0:
            self._buckets.pop(key, None)
            return 0.0
        return level


class Budgets:
    """What one server counts."""

    def __init__(self, per_address: int, per_account: int, window_s: float) -> None:
        self._addresses = Budget(per_address, window_s)
        self._accounts = Budget(per_account, window_s)
        self._friends: OrderedDict[tuple[str, str], None] = OrderedDict()  # account and address of good logins

    def configure(self, per_address: int, per_account: int) -> None:
        """Let through so many failures from now on."""
        self._addresses.configure(per_address)
        self._accounts.configure(per_account)

    def address_spent(self, peer: str, now: float) -> bool:
        """Return whether nobody may try to log in from `peer` ("address:port") now."""
        return self._addresses.spent(network(peer), now)

    def account_spent(self, account: str, peer: str, now: float) -> bool:
        """Return whether no password may be tried for `account` from `peer` now."""
        return (account, network(peer)) not in self._friends and self._accounts.spent(account, now)

    def failed(self, account: str, peer: str, now: float) -> None:
        """Count a wrong password or token."""
        address = network(peer)
        if not self._addresses.spent(address, now) and (account, address) not in self._friends:
            self._accounts.failed(account, now)
        self._addresses.failed(address, now)

    def succeeded(self, account: str, peer: str) -> None:
        """Note a login by `account` from `peer`."""
        friend = account, network(peer)
        self._friends[friend] = None
        self._friends.move_to_end(friend)
        while len(self._friends) > MAX_KEYS:
            self._friends.popitem(last=False)


def network(peer: str) -> str:
    """Return what is counted for "address:port": an IPv4 address, or the /64 of an IPv6 address."""
    host = peer.rpartition(":")[0].strip("[]")
    if ":" not in host:
        return host
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
