# SPDX-License-Identifier: Apache-2.0
"""Stream management of a client (XEP-0198): counting what comes, and going on with a stream that was lost.

What goes out is counted and kept by the `Outbox`.
"""

from __future__ import annotations

from xiot.client.login import Wire
from xiot.client.outbox import Outbox
from xiot.core import Element
from xiot.errors import LinkError, StreamError, XiotError
from xiot.proto import sm


class NotDurable(LinkError):
    """A durable link was asked for, and the server has none."""

    def __init__(self) -> None:
        super().__init__("the server has no durable links")


class Management:
    """What the server and we have acknowledged, over all streams that go on with the first."""

    def __init__(self, outbox: Outbox, *, durable: bool) -> None:
        """`durable`: the server shall have on disk what it acknowledges, and go on with the stream even after a crash."""
        self._outbox = outbox
        self._durable = durable
        self._refused = False
        self.location: str | None = None
        """Where the server wants us to come back to go on: ``host:port``."""
        self._former: str | None = None  # what the stream can be resumed by
        self._counts = False  # stanzas that come
        self._handled = 0

    @property
    def resumption(self) -> sm.Resume | None:
        """What the next stream asks for, to go on with this one; None if it cannot."""
        return None if self._former is None else sm.Resume(self._former, self._handled)

    def begin(self, wire: Wire) -> None:
        """Begin anew on a stream that goes on with no earlier one."""
        self._former, self._counts, self._handled, self.location = None, False, 0, None
        machine = wire.machine
        if machine.managed and machine.outcome is not None and machine.outcome.bound is not None:
            self._outbox.manage()
            answers = [element for element in machine.outcome.bound if element.ns == sm.NS]
            if answers:
                self.receive(answers[0])
            else:
                self._refuse()
        elif machine.features is not None and sm.offered(machine.features.element):
            self._outbox.manage(sm.Enable(resume=True, durable=self._durable))
        else:
            self._refuse()

    def _refuse(self) -> None:
        """The server will not count."""
        self._outbox.unmanaged()
        self._refused = self._durable

    def check(self) -> None:
        """Raise NotDurable if the link should be durable and is not."""
        if self._refused:
            raise NotDurable

    def go_on(self, wire: Wire) -> bool:
        """Whether the stream goes on with the last one; then what is kept goes first."""
        if wire.machine.resumed is None or not self._outbox.acknowledge(wire.machine.resumed):
            return False
        self._outbox.resend()
        return True

    def receive(self, element: Element) -> None:
        """Deal with an element of the server's. Raises StreamError."""
        try:
            answer = sm.parse(element)
            if element.name == "r":
                self.acknowledge()
            elif element.name == "a" and not self._outbox.acknowledge(sm.parse_count(element)):
                raise StreamError("undefined-condition", "the server acknowledges more than we have sent")
            elif isinstance(answer, sm.Enabled):
                self._counts, self._former, self.location = True, answer.id, answer.location
                self._refused = self._durable and not answer.durable
            elif isinstance(answer, sm.Failed):
                self._refuse()
        except ValueError as error:
            raise StreamError("bad-format", str(error)) from None

    def acknowledge(self) -> None:
        """Tell the server what we have dealt with."""
        if answer := self.acknowledgement():
            self._outbox.put(answer, ahead=True, stanza=False)

    def acknowledgement(self) -> bytes:
        """What that is; nothing if the server does not want to know."""
        return sm.acknowledgement(self._handled) if self._counts else b""

    def handled(self) -> None:
        """One stanza more is dealt with."""
        self._handled = (self._handled + self._counts) % sm.COUNTS

    def closed(self, error: XiotError | None) -> None:
        """The server has closed the stream: what was closed is not gone on with, unless it is durable and only the server stops."""
        stops = isinstance(error, StreamError) and error.condition == "system-shutdown"
        if not (self._durable and stops):
            self._former = None
