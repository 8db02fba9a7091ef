# SPDX-License-Identifier: Apache-2.0
"""EXI at the client (XEP-0322): what is proposed to servers, and a transport that is used as if its octets were XML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from anyio.abc import ByteStream

from xiot.exi.aliases import canonical, proposal, triple
from xiot.exi.configurations import OPTIONS, SESSION, ExiStream, Setup, named, set_id
from xiot.exi.sets import XMPP
from xiot.proto import exi

SchemaSet = Literal["xiot", "xmpp"] | Sequence[str | Path]


class Proposals:
    """What a client proposes to servers, best first, and how that is coded.

    keep: string tables last as long as a stream. schemas: "xiot", our set, and for servers that have not got it the XEPs' own; "xmpp", these
    alone; or XSD files beside these. upload: send files to a server that has not got them, and asks. limits: of `Setup`.
    """

    def __init__(self, schemas: SchemaSet, *, keep: bool, upload: bool, limits: dict[str, Any]) -> None:
        self._keep = keep
        self._limits = limits
        self._documents: dict[exi.Schema, Path | bytes] = {}
        self._agreed: dict[str, Setup] = {}  # by the server's id: quick setup when we come back
        self.uploads: dict[exi.Schema, bytes] = {}
        """Schemas that a server may be sent."""
        self._ours = set_id() + (SESSION if keep else "") if schemas == "xiot" else None
        paths = [] if isinstance(schemas, str) else [Path(path) for path in schemas]
        if schemas == "xiot" and find_spec("lxml") is None:
            return  # what is left when the server has not got all of them could not be compiled
        for (namespace, size, md5), path in proposal(XMPP).items():
            self._documents[exi.Schema(namespace, size, md5)] = path
        for path in paths:
            data = path.read_bytes()
            try:
                schema = exi.Schema(*triple(data))
            except SyntaxError as error:  # ElementTree.ParseError is one
                raise ValueError(f"{path}: no XML: {error}") from None
            self._documents = {
                have: what for have, what in self._documents.items() if have.namespace != schema.namespace
            }
            self._documents[schema] = data
            if upload:
                self.uploads[schema] = data
        if paths:
            canonical(self._documents.values())  # raises ValueError here, and not when the server has agreed

    @property
    def requests(self) -> list[exi.Request]:
        """Setups to propose, one after the other."""
        ids = [self._ours] if self._ours is not None else []
        found = [exi.Request(configuration=id) for id in (*ids, *self._agreed)]
        if self._documents:
            options = replace(OPTIONS, plain_numbers=False)  # that is how numbers are shown, and nobody else's business
            schemas = sorted(self._documents, key=lambda schema: schema.namespace)
            found.append(exi.Request(options, self._keep, tuple(schemas)))
        return found

    @property
    def quick(self) -> Setup | None:
        """What to begin with where EXI is spoken from the first octet; None: nothing that has an id."""
        if self._ours is not None:
            return named(self._ours, **self._limits)
        return next(iter(self._agreed.values()), None)

    def default(self) -> Setup:
        """What every server has there."""
        return Setup(**self._limits)

    def setup(self, agreed: exi.Request, id: str | None) -> Setup:
        """How a stream is coded that a server has agreed to; slow, the first time. Raises ValueError, ImportError (lxml)."""
        if id is not None and (have := self._agreed.get(id) or named(id, **self._limits)) is not None:
            return have
        grammar = canonical([self._documents[schema] for schema in agreed.schemas])
        setup = Setup(replace(agreed.options, plain_numbers=True), grammar, keep=agreed.keep, id=id, **self._limits)
        if id is not None:
            self._agreed = {id: setup}
        return setup


class ExiTransport(ByteStream):
    """EXI on `below`."""

    def __init__(self, below: ByteStream, stream: ExiStream) -> None:
        self.below = below
        self.stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next piece of the stream as XML, which may be longer. Raises ExiError, and as the transport below."""
        while (xml := self.stream.next()) is None:
            self.stream.receive(await self.below.receive(max_bytes))
        return xml

    async def send(self, item: bytes) -> None:
        """Send XML of the stream. Raises ExiError, and as the transport below."""
        if octets := self.stream.send(item):
            await self.below.send(octets)

    async def send_eof(self) -> None:
        """As the transport below."""
        await self.below.send_eof()

    async def aclose(self) -> None:
        """As the transport below."""
        await self.below.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the transport below."""
        return self.below.extra_attributes
