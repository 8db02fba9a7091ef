# SPDX-License-Identifier: Apache-2.0
"""What the core raises when its input, not its caller, is at fault."""

from __future__ import annotations


class XmlError(Exception):
    """The input is not XML as XMPP allows it: `condition` of RFC 6120 section 4.9.3, at byte `offset`, counted from 0."""

    def __init__(self, condition: str, offset: int) -> None:
        super().__init__(condition, offset)
        self.condition = condition
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.condition} at byte {self.offset}"


class JidError(ValueError):
    """The text is no JID: `part` says where it fails (local, domain or resource; jid if the whole does), `reason` why.

    The text itself is kept out of the message, since it is the peer's and may be long or misleading in a log.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part = part
        self.reason = reason

    def __str__(self) -> str:
        return f"bad JID: {self.reason}" if self.part == "jid" else f"bad {self.part}part of JID: {self.reason}"


class ExiError(ValueError):
    """EXI cannot be decoded, or XML not be encoded under the options in force.

    `condition`: damaged, incomplete, header, limit, strict (the schema does not have it), unsupported, xml (it is not
    well-formed). The message holds nothing of the input.
    """

    def __init__(self, condition: str, reason: str) -> None:
        super().__init__(condition, reason)
        self.condition = condition
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.condition}: {self.reason}"
