# SPDX-License-Identifier: Apache-2.0
"""What the specifications for things need of the rooms above them: who is read and controlled, and who reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from _xmppcore import JID
    from xiot.errors import XiotError
    from xiot.model.control import Assignment, Parameter
    from xiot.model.reading import Query, Reading


class Answers(Protocol):
    """Where the answers to one read-out go, in the order of the calls."""

    async def accepted(self) -> None:
        """Say that the read-out will start later."""

    async def started(self) -> None:
        """Say that it has started."""

    async def readings(self, readings: Sequence[Reading], *, more: bool) -> None:
        """Send data; without `more` the read-out is done."""


@runtime_checkable
class Device(Protocol):
    """A thing that answers. All may raise StanzaError, which is the answer."""

    async def read_out(self, sender: JID, id: str, query: Query, when: datetime | None, answers: Answers) -> None:
        """Read what `query` asks for, at once or at `when`; `id` is unique for the full JID `sender`."""

    def cancel(self, sender: JID, id: str) -> None:
        """Stop a read-out, if there is one with that id."""

    async def control(self, sender: JID, given: Sequence[Assignment]) -> Sequence[str]:
        """Check all values, then set them; returns the names of the parameters."""

    async def parameters(self, sender: JID) -> Sequence[Parameter]:
        """Return what can be set."""


@runtime_checkable
class Reader(Protocol):
    """Who has asked for read-outs, and gets what comes later than the first answer."""

    def on_readings(self, sender: JID, id: str, readings: Sequence[Reading], *, more: bool) -> None:
        """Take data of the read-out `id`; without `more` it is done."""

    def on_done(self, sender: JID, id: str, error: XiotError | None = None) -> None:
        """Note that the read-out `id` is done, or has failed."""
