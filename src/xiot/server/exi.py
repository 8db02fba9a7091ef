# SPDX-License-Identifier: Apache-2.0
"""EXI at the server (XEP-0322): which setups there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _xmppcore.exi_stream import ExiStream, Kind, Setup
from xiot.exi import Options

if TYPE_CHECKING:
    from xiot.server.config import Config


class ExiService:
    """The setups of one server."""

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._default = Setup(
            max_stanza_bytes=self._limits.max_stanza_bytes,
            max_depth=self._limits.max_depth,
            max_attributes=self._limits.max_attributes,
        )

    def stream(self) -> ExiStream:
        """A stream at a port for EXI."""
        return ExiStream(Kind.RECEIVING, choose=self._choose, max_bytes=self._limits.pre_auth_stanza_bytes)

    def _choose(self, options: Options | None) -> Setup | None:
        """What a header asks for."""
        return self._default if options is None else None
