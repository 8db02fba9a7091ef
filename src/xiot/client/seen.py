# SPDX-License-Identifier: Apache-2.0
"""What has come already, so that what a server delivers again after a crash is seen once."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from xiot.core import JID, Stanza
from xiot.xep.stanzaid import OriginId

MOST = 2000  # ids, the newest: more than a server sends without being acknowledged, and half a megabyte at most
AGE_S = 86_400.0  # as long as servers of ours keep a message that was sent on a durable link


class Seen:
    """The ids that senders gave to their messages (XEP-0359), within a window of count and age."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._ids: dict[tuple[JID, str], float] = {}

    def again(self, stanza: Stanza, sender: JID | None) -> bool:
        """Return whether `sender` has sent us a message of that id before, and remember that he has now; False without an id."""
        if sender is None or stanza.type == "error" or b"origin-id" not in stanza.raw:
            return False
        found = stanza.element.find(OriginId.TAG)
        id = None if found is None else found.get("id")
        if not id or len(id) > 256:
            return False
        key, now = (sender.bare, id), self._now()
        if key in self._ids and now - self._ids[key] <= AGE_S:
            return True
        self._ids.pop(key, None)
        self._ids[key] = now
        if len(self._ids) > MOST:
            del self._ids[next(iter(self._ids))]
        return False
