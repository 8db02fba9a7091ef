# SPDX-License-Identifier: Apache-2.0
"""EXI at the server (XEP-0322): which setups there are, and how clients get theirs.

Theory of operation. A setup is options and the tables of a set of schemas. Some have a name without anybody having asked: the default
one, and those of our own schemas (`xiot.exi.configurations`). Others are made when a client proposes them: the schemas are compiled in a
worker thread, one set at a time, and kept with what was agreed on under an id that is a hash of it; so the same proposal has the same id
on each server of ours, and after a restart. At ports for EXI the id may stand in the first octets, where nobody can wait: so what the
store has is made again when the server starts.

Schemas are ours, under their own hashes and those that the XEP lists; those that the operator has named (`[[exi.aliases]]`); or those that clients
have sent or had fetched, if the configuration lets them. What one of ours imports comes with it; what one of a client's imports has to be named.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from xiot.core import Element, XmlError, parse_element
from xiot.errors import StreamError
from xiot.exi import Grammar, Options
from xiot.exi.configurations import DEFAULT_OPTIONS, NS, ExiStream, Kind, Setup, named
from xiot.model.exi import MOST_SETUPS, AgreedSetup, StoredSchema, remember_schema, remember_setup
from xiot.proto import exi
from xiot.server.config import ConfigError, Exi, ExiAlias
from xiot.server.fetch import FetchError, fetch
from xiot.store import StoreError

if TYPE_CHECKING:
    from xiot.server.config import Config
    from xiot.server.server import Server
    from xiot.server.session import ClientSession

COMPILE_S = 10.0  # for a set of schemas


class ExiService:
    """The setups of one server."""

    def __init__(self, server: Server, config: Config) -> None:
        self._server = server
        limits = config.limits
        self._early_bytes = limits.pre_auth_stanza_bytes
        self._most_bytes = limits.max_stanza_bytes
        self._bounds: dict[str, Any] = {
            "max_stanza_bytes": limits.max_stanza_bytes,
            "max_depth": limits.max_depth,
            "max_attributes": limits.max_attributes,
        }
        self._default = Setup(**self._bounds)
        self._named: dict[str, Setup] = {}  # ours, made when first asked for
        self._agreed: dict[str, Setup] = {}  # proposed by clients; the one used last is the last
        self._schemas: dict[exi.Schema, bytes] = {}  # of clients
        self._aliases = aliases(config.exi)
        self._compiling = trio.Lock()
        self._restored = trio.Event()

    async def restore(self) -> None:
        """Make again what was agreed on before the server started."""
        try:
            schemas, setups = await self._server.store.run(lambda tx: (tx.exi.schemas(), tx.exi.setups()))
            self._schemas = {exi.Schema(each.namespace, each.size, each.md5): each.data for each in schemas}
            for setup in reversed(setups):
                usual = DEFAULT_OPTIONS if setup.within_exi else Options()
                asked = exi.parse_request(parse_element(setup.request), usual)
                await self._make(setup.id, asked, setup.within_exi)
        except (StoreError, ValueError, XmlError) as error:
            self._server.log.error("setups of EXI cannot be restored", why=str(error))
        finally:
            self._restored.set()

    def configure(self, aliases: dict[exi.Schema, Path | bytes]) -> None:
        """Take other aliases: what was agreed on is made again, as far as it can be."""
        if aliases != self._aliases:
            self._aliases = aliases
            self._agreed = {}
            self._restored = trio.Event()
            self._server.nursery.start_soon(self.restore)

    # ---- streams

    def listening(self) -> ExiStream:
        """A stream at a port for EXI."""
        return ExiStream(Kind.RECEIVING, choose=self._choose, max_bytes=self._early_bytes)

    def stream(self, setup: Setup) -> ExiStream:
        """A stream that begins within one of XML, after the login."""
        return ExiStream(Kind.BOUND, setup, max_bytes=self._most_bytes)

    def _choose(self, options: Options | None) -> Setup | None:
        """What the header of a stream asks for: nothing, the default options, or a configuration (sections 3.4 and 4.8.1)."""
        if options is None or replace(options, schema_id=None) == DEFAULT_OPTIONS:
            return self._default
        if not isinstance(options.schema_id, str) or not options.schema_id.startswith("c:"):
            return None
        return None if replace(options, schema_id=None) != Options() else self._find(options.schema_id[2:])

    def _find(self, id: str) -> Setup | None:
        """The setup with this configuration id, if there is one in memory."""
        setup = self._named.get(id) or self._agreed.get(id) or named(id, **self._bounds)
        if setup is None or (setup.keep and not self._server.config.exi.session_wide):
            return None
        if id in self._agreed:
            self._agreed[id] = self._agreed.pop(id)
        else:
            self._named[id] = setup
        return setup

    # ---- agreeing

    async def answer(self, request: Element, session: ClientSession) -> tuple[Element | None, Setup | None]:
        """What to say to a client that negotiates, and the setup that was agreed on. Raises StreamError."""
        within_exi = session.stream.over_exi
        match request.name:
            case "uploadSchema":
                await self._upload(request)
                return None, None
            case "downloadSchema":
                return await self._download(request), None
            case "setup":
                pass
            case _:
                raise StreamError("unsupported-stanza-type")
        try:
            asked = exi.parse_request(request, DEFAULT_OPTIONS if within_exi else Options())
        except ValueError as error:
            raise StreamError("bad-format", str(error)) from None
        await self._restored.wait()
        if asked.configuration is not None:
            setup = self._find(asked.configuration)
            told = exi.Answer(asked, agreement=setup is not None)
            return exi.build_answer(told, quick=True), setup
        return await self._negotiate(asked, within_exi)

    async def _negotiate(self, asked: exi.Request, within_exi: bool) -> tuple[Element, Setup | None]:
        config = self._server.config.exi
        known = await trio.to_thread.run_sync(self._known, asked.schemas)
        bounds = exi.Bounds(config.value_max_length, config.value_partition_capacity, config.session_wide)
        answer = exi.answer(asked, bounds, known.__contains__)
        usual = DEFAULT_OPTIONS if within_exi else Options()
        if not answer.agreement:
            return exi.build_answer(answer, usual=usual), None
        id = configuration_id(asked, within_exi)
        setup = self._agreed.get(id) or await self._make(id, asked, within_exi)
        if setup is None:
            return exi.build_answer(replace(answer, agreement=False), usual=usual), None
        written = exi.build_request(asked, usual).tobytes().decode()
        agreed = AgreedSetup(id, written, within_exi, datetime.now(UTC))
        try:
            await self._server.store.run(lambda tx: remember_setup(tx.exi, agreed))
        except StoreError as error:
            self._server.log.error("a setup of EXI cannot be kept", why=str(error))
        return exi.build_answer(replace(answer, request=replace(asked, configuration=id)), usual=usual), setup

    async def _make(self, id: str, asked: exi.Request, within_exi: bool) -> Setup | None:
        """Compile what was agreed on; None if a schema needs what is not there, or costs too much."""
        async with self._compiling:  # of many that ask, each in its turn
            known = await trio.to_thread.run_sync(self._known, asked.schemas)
            if len(known) < len(asked.schemas):  # of what was agreed on in other times: some are gone
                return None
            compiling = partial(_compile, list(known.values()), within_exi)
            try:
                grammar = await trio.to_thread.run_sync(compiling, abandon_on_cancel=True)  # it ends within COMPILE_S
            except (ValueError, ImportError, RecursionError) as error:  # SchemaError is a ValueError
                self._server.log.warning("schemas for EXI cannot be compiled", why=str(error))
                return None
        options = replace(asked.options, plain_numbers=True)
        setup = self._agreed[id] = Setup(options, grammar, keep=asked.keep, id=id, **self._bounds)
        while len(self._agreed) > MOST_SETUPS:
            del self._agreed[next(iter(self._agreed))]
        return setup

    def _known(self, schemas: tuple[exi.Schema, ...]) -> dict[exi.Schema, Path | bytes]:
        """For those schemas that we have, our file, the operator's, or what a client has sent."""
        from xiot.exi.aliases import known

        found: dict[exi.Schema, Path | bytes] = {}
        for schema in schemas:
            have = known(schema.namespace, schema.bytes, schema.md5) or self._aliases.get(schema)
            have = have or self._schemas.get(schema)
            if have is not None:
                found[schema] = have
        return found

    # ---- schemas of clients: section 3.2.3 and following

    async def _upload(self, element: Element) -> None:
        """Take a schema; nothing is said of it: the next setup shows whether it is there."""
        config = self._server.config.exi
        if not config.upload or element.get("contentType", "Text") != "Text":
            return
        try:
            data = b64decode("".join((element.text or "").split()), validate=True)
        except ValueError:
            return
        if len(data) <= config.schema_bytes:
            await self._take(data)

    async def _download(self, element: Element) -> Element:
        url, config = element.get("url", ""), self._server.config.exi
        answer = Element(f"{{{NS}}}downloadSchemaResponse", {"url": url})
        try:
            data = await fetch(url, config.download_hosts, config.schema_bytes)
            if not await self._take(data):
                raise FetchError("invalidContentType", {"contentTypeReturned": "application/octet-stream"})
        except FetchError as error:
            answer.set("result", "false")
            answer.append(Element(f"{{{NS}}}{error.what}", dict(error.words)))
        else:
            answer.set("result", "true")
        return answer

    async def _take(self, data: bytes) -> bool:
        """Keep a schema; False if it is none, or cannot be stored."""
        try:
            namespace = await trio.to_thread.run_sync(_namespace, data)
        except (ValueError, ImportError):
            return False
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        schema = StoredSchema(namespace, len(data), md5, data, datetime.now(UTC))
        most = self._server.config.exi.schemas_bytes
        try:
            left = await self._server.store.run(lambda tx: remember_schema(tx.exi, schema, most))
        except StoreError as error:
            self._server.log.error("a schema cannot be kept", why=str(error))
            return False
        self._schemas = {exi.Schema(each.namespace, each.size, each.md5): each.data for each in left}
        return True


def configuration_id(asked: exi.Request, within_exi: bool) -> str:
    """The id of what was agreed on: the same for the same options and schemas."""
    text = repr((asked.options, asked.keep, sorted(map(repr, asked.schemas)), within_exi))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def aliases(config: Exi) -> dict[exi.Schema, Path | bytes]:
    """What the configuration has for schema documents: our file, or theirs as bytes. Raises ConfigError: a file is not what it should be."""
    return {exi.Schema(alias.namespace, alias.bytes, alias.md5): _document(alias) for alias in config.aliases}


def _document(alias: ExiAlias) -> Path | bytes:
    from xiot.exi.aliases import ours, triple

    if alias.file is None:
        have = ours(alias.namespace)
        assert have is not None  # the configuration was checked
        return have
    try:
        data = alias.file.read_bytes()
        namespace, size, md5 = triple(data)
    except OSError as error:
        raise ConfigError(f"{alias.file}: {error.strerror}") from None
    except SyntaxError as error:  # ElementTree.ParseError is one
        raise ConfigError(f"{alias.file}: no XML: {error}") from None
    if (namespace, size, md5) != (alias.namespace, alias.bytes, alias.md5):
        raise ConfigError(f'{alias.file} has namespace = "{namespace}", bytes = {size}, md5 = "{md5}"')
    return data


def compile_alias(alias: ExiAlias) -> None:
    """Compile the schema of an alias beside all of ours that are for other namespaces. Raises ConfigError, ValueError, ImportError."""
    from xiot.exi.aliases import CANONICAL, files
    from xiot.exi.sets import XMPP

    taken = _document(alias)
    if isinstance(taken, bytes):
        others = [
            path for path in files(XMPP) if path.stem != CANONICAL and _namespace(path.read_bytes()) != alias.namespace
        ]
        _compile([*others, taken], within_exi=False)


def _namespace(data: bytes) -> str:
    """The target namespace of a schema. Raises ValueError."""
    from xiot.exi.compiler.xsd import Schema

    return Schema().parse(data, "a schema of a client's").get("targetNamespace") or ""


def _compile(schemas: list[Path | bytes], within_exi: bool) -> Grammar:
    """The grammar of a set of schemas, within the limits that strangers get. Raises ValueError."""
    from xiot.exi.aliases import canonical
    from xiot.exi.compiler.xsd import Limits

    limits = Limits(seconds=COMPILE_S)
    if any(isinstance(schema, bytes) for schema in schemas):
        limits = replace(limits, particles=5_000, states=20_000)
    return canonical(schemas, within_exi=within_exi, limits=limits)
