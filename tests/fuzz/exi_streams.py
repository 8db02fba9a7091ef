# SPDX-License-Identifier: Apache-2.0
"""Fuzz target of streams in EXI: layer, router and layer, from one client to another.

    python -m tests.fuzz.exi_streams SECONDS [SEED]     mutate what corpus/exi_streams has; the first input that fails is left in build/fuzz
    python -m tests.fuzz.exi_streams FILE ...           run inputs
    python -m tests.fuzz.exi_streams                    write corpus/exi_streams anew

`make fuzz` runs it on the core with sanitizers. The logic is in Cython, which libFuzzer does not see; fuzz_exi.c does the same to the codec.

An input is an octet that says how Alice's stream begins, then commands: one octet, two of a length, so many of data. Octets come on her wire, or XML
that her own encoder codes; the server restarts her stream, agrees to another setup, or sends to her; Bob's wire is drained. Whatever comes, feeding ends in
events and ExiErrors; what Bob gets can be decoded, is well-formed, and says that it is from Alice; what is kept stays within bounds.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from _xmppcore import JID, Router, Stanza, XmlError, parse_element
from _xmppcore.exi_stream import Exi, ExiStream, Kind, Setup
from tests.shared import ROOT
from xiot.exi import ExiError, Options, xiot_schemas

CORPUS = ROOT / "tests/fuzz/corpus/exi_streams"
MOST_BYTES = 4096  # of a body
LIMITS = {"max_stanza_bytes": MOST_BYTES, "max_depth": 16, "max_attributes": 16}
OURS = Options(value_max_length=64, value_partition_capacity=64, plain_numbers=True)
SETUPS = [
    Setup(**LIMITS),
    Setup(OURS, xiot_schemas(), id="ours", **LIMITS),
    Setup(OURS, xiot_schemas(), keep=True, id="kept", **LIMITS),
    Setup(
        Options(alignment="byte-aligned", value_max_length=9, value_partition_capacity=5),
        xiot_schemas(),
        id="few",
        **LIMITS,
    ),
]
OCTETS, XML, RESTART, PROPOSE, SEND, DRAIN = range(6)
ALICE, BOB = "alice@example.org/device", "bob@example.org/app"
HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='example.org'>"
STANZAS = [
    f"<message to='{BOB}' type='chat' id='1'><body>wherefore art thou</body></message>".encode(),
    f"<message to='{BOB}' from='{ALICE}'><body>{ALICE}</body><x xmlns='urn:odd' id='1'>1</x></message>".encode(),
    f"<iq to='{BOB}' type='get' id='2'><req xmlns='urn:xmpp:iot:sensordata' seqnr='1' momentary='true'/></iq>".encode(),
    f"<message to='{BOB}'><fields xmlns='urn:xmpp:iot:sensordata' seqnr='1' done='true'><node nodeId='a'><timestamp value='2026-01-01T00:00:00Z'>"
    f"<numeric name='t' momentary='true' value='23.4' unit='K'/></timestamp></node></fields></message>".encode(),
    b"<presence/>",
    b"<r xmlns='urn:xmpp:sm:3'/>",
]


class End:
    """A link at a router, and the client at the other end of its wire."""

    def __init__(self, router: Router, stream: ExiStream, client: ExiStream) -> None:
        self.link = router.link()
        self.layer = Exi(stream)
        self.client = client
        self.link.restart(logged_in=True)
        self.failed = False

    def feed(self, octets: bytes) -> Iterator[object]:
        """What comes of octets; after an error, nothing any more."""
        router = self.link.router
        for at in range(0, len(octets), 60_000):
            part = octets[at : at + 60_000]
            router.buffer[: len(part)] = part
            self.layer.receive(self.link, len(part))
            while (event := self.layer.feed(self.link)) is not None:
                while event is not None:
                    yield event
                    if isinstance(event, (ExiError, XmlError)):  # the stream is over, and says so for ever
                        self.failed = True
                        return
                    event = self.link.feed()

    def drain(self) -> list[bytes]:
        """What the client gets of what is queued."""
        found = []
        while part := self.layer.output(self.link, False):
            self.layer.sent(len(part))
            self.client.receive(part)
            while (piece := self.client.next()) is not None:
                found.append(piece)
        return found


def choose(options: Options | None) -> Setup | None:
    if options is None:
        return SETUPS[0]
    return next((setup for setup in SETUPS[1:] if options.schema_id == f"c:{setup.id}"), None)


def run(data: bytes) -> None:
    """One input. Raises whatever must not happen."""
    how, at = data[0] if data else 0, 1
    setup = SETUPS[how & 3]
    router = Router()
    port = bool(how & 4)
    if port:
        server = ExiStream(Kind.RECEIVING, choose=choose, max_bytes=MOST_BYTES)
    else:
        server = ExiStream(Kind.BOUND, setup, max_bytes=MOST_BYTES)
    alice = End(router, server, ExiStream(Kind.INITIATING if port else Kind.BOUND, setup))
    bob = End(router, ExiStream(Kind.BOUND, setup), ExiStream(Kind.BOUND, setup))
    for end, jid in (alice, ALICE), (bob, BOB):
        if end is bob or how & 8:
            list(end.feed(end.client.send(HEADER)))
            end.link.write(HEADER)
        end.link.bind(JID(jid))
    if how & 16:
        bob.link.enable_sm()
        alice.link.enable_sm()
    header, *_ = bob.drain()
    assert header.startswith(b"<stream:stream")
    while at + 3 <= len(data):
        command, size = data[at] % 6, int.from_bytes(data[at + 1 : at + 3], "little")
        part = data[at + 3 : at + 3 + size]
        at += 3 + size
        if command == XML:
            with suppress(ExiError):
                part = alice.client.send(part)
        if command in (OCTETS, XML) and not alice.failed:
            for event in alice.feed(part):
                assert isinstance(event, Stanza) or not alice.link.pending
            assert server.pending <= MOST_BYTES + max(len(part), 1)
        elif command == RESTART and not alice.failed and (server.setup is not None or server.xml):
            with suppress(ExiError):
                alice.layer.restart(alice.link)
            alice.link.restart(logged_in=True)
            alice.client = ExiStream(Kind.BOUND, server.setup or setup)
        elif command == PROPOSE and server.setup is not None:
            server.propose(SETUPS[size & 3])
        elif command == SEND and not alice.failed and (server.setup is not None or server.xml):
            alice.link.write(STANZAS[size % len(STANZAS)] if part else HEADER)
            with suppress(ConnectionError):  # what its schemas do not have
                while alice.layer.output(alice.link, False):
                    alice.layer.sent(size + 1)
        elif command == DRAIN:
            check(bob.drain())
    check(bob.drain())
    assert bob.link.queued_bytes == 0


def check(pieces: list[bytes]) -> None:
    for piece in pieces:
        element = parse_element(piece)
        if element.name not in ("r", "a"):
            assert element.get("from") == ALICE, piece


def mutated(source: random.Random, inputs: list[bytes]) -> bytes:
    """One of the inputs, changed a little, or two of them joined."""
    data = bytearray(source.choice(inputs))
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        at = source.randrange(len(data))
        match source.randrange(7):
            case 0 | 1:
                data[at] ^= 1 << source.randrange(8)
            case 2:
                data[at] = source.choice((0, 1, 0x7F, 0x80, 0xFF, 0x24, 0xA0))
            case 3:
                del data[at : at + source.choice((1, 1, 2, 8))]
            case 4:
                data[at:at] = source.randbytes(source.choice((1, 1, 3, 20)))
            case 5:
                other = source.choice(inputs)
                data[at:] = other[source.randrange(len(other)) :]
            case 6:
                data[at:at] = data[at : at + source.randrange(40)]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def corpus() -> list[bytes]:
    """The inputs that are kept."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def fuzz(seconds: float, seed: int, rounds: int = 1 << 62) -> int:
    """Run mutated inputs; how many. What fails is left in build/fuzz, and raised."""
    source, inputs, end = random.Random(seed), corpus(), time.monotonic() + seconds
    count = 0
    while count < rounds and time.monotonic() < end:
        data = mutated(source, inputs)
        count += 1
        folder = ROOT / "build/fuzz"
        current = folder / "exi_streams.current"
        if rounds == 1 << 62:  # what ends the process has to be found, too
            folder.mkdir(parents=True, exist_ok=True)
            current.write_bytes(data)
        try:
            run(data)
        except BaseException:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"exi_streams-{seed}-{count}").write_bytes(data)
            raise
    return count


def write_corpus() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)

    def command(number: int, data: bytes) -> bytes:
        return bytes([number]) + len(data).to_bytes(2, "little") + data

    written = [command(XML, each) for each in STANZAS]
    for how in range(32):
        setup = SETUPS[how & 3]
        name = f"{setup.id or 'default'}{'-port' if how & 4 else ''}{'-begun' if how & 8 else ''}{'-managed' if how & 16 else ''}"
        data = bytes([how])
        client = ExiStream(Kind.INITIATING if how & 4 else Kind.BOUND, setup)
        octets = client.send(HEADER)
        if not how & 8:
            data += command(OCTETS, octets)
            bodies = b""
            for stanza in STANZAS:
                with suppress(ExiError):  # of a strict setup
                    bodies += client.send(stanza)
            data += command(OCTETS, bodies)
        else:
            data += b"".join(written) + command(DRAIN, b"") + command(SEND, b"x")
        data += (
            command(RESTART, b"")
            + command(XML, HEADER)
            + written[0]
            + command(PROPOSE, b"x")
            + command(XML, HEADER + STANZAS[1])
        )
        (CORPUS / name).write_bytes(data)
    header = ExiStream(Kind.BOUND, SETUPS[1]).send(HEADER)
    (CORPUS / "xml-at-the-port").write_bytes(b"\5" + command(OCTETS, HEADER + STANZAS[0] + b"</stream:stream>"))
    (CORPUS / "headers").write_bytes(b"\1" + command(OCTETS, b"\x80" + header) + command(OCTETS, b"\x80"))
    (CORPUS / "end").write_bytes(b"\11" + command(XML, STANZAS[0] + b"</stream:stream>") + command(OCTETS, b"\0\1"))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        write_corpus()
    elif sys.argv[1].isdecimal():
        seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
        print(f"seed {seed}", flush=True)
        print(f"{fuzz(float(sys.argv[1]), seed)} inputs passed")
    else:
        for path in sys.argv[1:]:
            run(Path(path).read_bytes())
