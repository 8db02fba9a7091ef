# SPDX-License-Identifier: Apache-2.0
"""XEP-0059: Result Set Management: long answers, page by page."""

from collections.abc import Sequence
from typing import Self

from xiot.ext import Extension
from xiot.schema import Payload, child

NS = "http://jabber.org/protocol/rsm"
ext = Extension("rsm", spec="XEP-0059", version="1.0", features=[NS])


class Page(Payload, tag=(NS, "set")):
    """Which page is asked for (section 2.1), or which one this is (section 2.2)."""

    max: int | None = child(default=None)
    after: str | None = child(default=None)
    before: str | None = child(default=None)
    first: str | None = child(default=None)
    last: str | None = child(default=None)
    count: int | None = child(default=None)

    @classmethod
    def of(cls, names: Sequence[str], count: int | None = None) -> Self:
        """Return what tells that the page holds `names`, of `count` in all; `names` may be empty."""
        return cls(first=names[0], last=names[-1], count=count) if names else cls(count=count)

    def limit(self, most: int) -> int:
        """Return how many results the page may have, `most` or less."""
        return most if self.max is None else max(0, min(self.max, most))
