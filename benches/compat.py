# SPDX-License-Identifier: Apache-2.0
"""Messages for a CPU second through slixmpp and aioxmpp, from the bytes to the handler, with and without `xiot.compat`.

Both libraries are measured in one run, their variants by turns: medians, and the ratio to the library as it is. aioxmpp has an environment
of its own (`.ci/run` makes build/aioxmpp), in which this file runs again. "parser that costs nothing": what it would find is there before the
clock runs; so nobody's parser can give more than that.

    python benches/compat.py [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamParser
from xiot.cli import corpora

ROOT = Path(__file__).parents[1]
HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='plant.example' id='1' version='1.0'>"
BODY = "jabber:client", "body"
STANZAS = 3000
READ = 16  # messages that a read of the socket finds, about 4 KB

Run = Callable[[], int]  # messages that were handled
Prepare = Callable[[], Run]  # what the clock does not see


def reads() -> list[bytes]:
    """Messages with a body of the chat corpus, as they would be read from a socket."""
    stream = StreamParser().feed(corpora.make("chat", STANZAS * 500).data)
    messages = [event.raw for event in stream if isinstance(event, Stanza) and event.payload == BODY]
    messages = messages[:STANZAS]
    return [b"".join(messages[i : i + READ]) for i in range(0, STANZAS, READ)]


def slixmpp_variants(data: list[bytes]) -> dict[str, Prepare]:
    from slixmpp import ClientXMPP

    from xiot.compat.slixmpp import Parser

    asyncio.set_event_loop(asyncio.new_event_loop())
    client = ClientXMPP("juliet@plant.example/bench", "")
    handled = 0

    def on_message(_: Any) -> None:
        nonlocal handled
        handled += 1

    client.add_event_handler("message", on_message)

    class Ready:
        """Finds what is there already: for each read the elements of its stanzas."""

        def __init__(self) -> None:
            parser = Parser()
            self.found: Iterator[list[Any]] = iter([])
            found = []
            for piece in (HEADER, *data):
                parser.feed(piece)
                found.append(list(parser.read_events()))
            self.found = iter(found)

        def feed(self, piece: bytes) -> None: ...

        def read_events(self) -> list[Any]:
            return next(self.found)

    def prepare(make: Callable[[], Any]) -> Run:
        client.init_parser()
        client.parser = make()
        client.data_received(HEADER)

        def run() -> int:
            nonlocal handled
            handled = 0
            for piece in data:
                client.data_received(piece)
            return handled

        return run

    parsers: dict[str, Callable[[], Any]] = {
        "slixmpp": lambda: ET.XMLPullParser(("start", "end")),
        "with xiot.compat": Parser,
        "with a parser that costs nothing": Ready,
    }
    return {name: (lambda make=make: prepare(make)) for name, make in parsers.items()}


def aioxmpp_variants(data: list[bytes]) -> dict[str, Prepare]:
    import aioxmpp.stanza
    import aioxmpp.structs
    import aioxmpp.xml
    import aioxmpp.xso

    from xiot.compat import aioxmpp as adapter

    names = ("nodeprep", "nameprep", "resourceprep")
    theirs = {name: getattr(aioxmpp.structs, name) for name in names}
    make_parser = aioxmpp.xml.make_parser
    adapter.install()
    ours = {name: getattr(aioxmpp.structs, name) for name in names}

    class Ready:
        """Calls the handler with what is there already: for each read the events of its stanzas."""

        def __init__(self) -> None:
            self.calls: list[tuple[str, tuple[Any, ...]]] = []
            parser = adapter.Parser(make_parser)
            parser.setContentHandler(self)
            self.found = []
            for piece in (HEADER, *data):
                parser.feed(piece)
                self.found.append(self.calls)
                self.calls = []
            self.left = iter(self.found)

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: self.calls.append((name, arguments))

        def setContentHandler(self, handler: Any) -> None:
            self.handler = handler

        def feed(self, piece: bytes) -> None:
            handler = self.handler
            for name, arguments in next(self.left):
                getattr(handler, name)(*arguments)

    def prepare(make: Callable[[], Any], prepares: dict[str, Any]) -> Run:
        handled = 0

        def on_message(_: Any) -> None:
            nonlocal handled
            handled += 1

        for name, function in prepares.items():
            setattr(aioxmpp.structs, name, function)
        processor = aioxmpp.xml.XMPPXMLProcessor()
        processor.stanza_parser = aioxmpp.xso.XSOParser()
        processor.stanza_parser.add_class(aioxmpp.stanza.Message, on_message)
        parser = make()
        parser.setContentHandler(processor)
        parser.feed(HEADER)

        def run() -> int:
            for piece in data:
                parser.feed(piece)
            return handled

        return run

    return {
        "aioxmpp": lambda: prepare(make_parser, theirs),
        "with the JIDs of xiot.compat": lambda: prepare(make_parser, ours),
        "with xiot.compat": lambda: prepare(aioxmpp.xml.make_parser, ours),
        "with its JIDs, and a parser that costs nothing": lambda: prepare(Ready, ours),
    }


LIBRARIES = {"slixmpp": slixmpp_variants, "aioxmpp": aioxmpp_variants}


def measure(library: str, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each round, by variant."""
    variants = LIBRARIES[library](reads())
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn, (name, prepare) in itertools.product(range(rounds + 1), variants.items()):
        run = prepare()
        start = time.process_time()
        handled = run()
        took = time.process_time() - start
        assert handled == STANZAS, (name, handled)
        if turn:  # the first warms up
            seconds[name].append(took)
    return seconds


def elsewhere(rounds: int) -> dict[str, list[float]] | None:
    """`measure` of aioxmpp in its own environment, if that is there."""
    python = Path(os.environ.get("XIOT_AIOXMPP") or ROOT / "build/aioxmpp") / "bin/python"
    if not python.exists():
        print(f"no aioxmpp: {python} is not there (.ci/run makes it)", file=sys.stderr)
        return None
    command = [str(python), __file__, "--rounds", str(rounds), "--json", "aioxmpp"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    seconds: dict[str, list[float]] = json.loads(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", metavar="LIBRARY")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args.json, args.rounds)))
        return
    print(f"{'':48} {'messages/CPU s':>14} {'ratio':>6}  quartiles")
    for seconds in (measure("slixmpp", args.rounds), elsewhere(args.rounds)):
        for name, times in (seconds or {}).items():
            plain = next(iter((seconds or {}).values()))
            low, median, high = statistics.quantiles([a / b for a, b in zip(plain, times, strict=True)], n=4)
            print(f"{name:48} {STANZAS / statistics.median(times):14,.0f} {median:6.2f}  {low:.2f}-{high:.2f}")


if __name__ == "__main__":
    main()
