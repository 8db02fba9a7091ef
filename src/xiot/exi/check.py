# SPDX-License-Identifier: Apache-2.0
"""Runs test vectors of EXI: ``python -m xiot.exi.check DIR``.

DIR holds one folder a case: `case.json` says options, schema (a path under `exi-schemas/`) and how far two other codecs agree (`status`);
`input.xml`, what they made of it (`oracle.exi`) and what they read from that (`events.txt`). `sessions/` holds one folder a session:
NNN.xml, NNN.exi and NNN.events, string tables kept, the header octet 0x80 in front of each body.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from xiot.exi import Event, ExiError, Grammar, Options, Session, compile_schemas, decode_events, encode


@dataclass(frozen=True)
class Failure:
    """What went wrong with one case."""

    name: str
    reason: str


def options_of(case: dict[str, Any]) -> Options:
    """The options that a case.json describes."""
    preserve, profile, header = case["preserve"], case["profile"], case["header"]
    alignment = "byte-aligned" if case["alignment"] == "byte-alignment" else case["alignment"]
    compression = alignment == "compression"
    schema_id: str | bool | None = None
    if header["schemaId_in_options"]:
        schema_id = False if case["schema"] is None else _schema_id(case)
    return Options(
        strict=case["strict"],
        fragment=case["fragment"],
        comments=preserve["comments"],
        pis=preserve["pis"],
        dtd=preserve["dtd"],
        prefixes=preserve["prefixes"],
        lexical=preserve["lexical"],
        alignment="bit-packed" if compression else alignment,
        compression=compression,
        block_size=case["blockSize"],
        value_max_length=case["valueMaxLength"],
        value_partition_capacity=case["valuePartitionCapacity"],
        datatype_representations=tuple((_qname(a), _qname(b)) for a, b in case["datatypeRepresentationMap"]),
        schema_id=schema_id,
        local_value_partitions=profile["localValuePartitions"],
        max_grammars=profile["maximumNumberOfBuiltInElementGrammars"],
        max_productions=profile["maximumNumberOfBuiltInProductions"],
        self_contained=case["selfContained"] is not None,
        cookie=header["cookie"],
        in_header=header["options"],
    )


def _schema_id(case: dict[str, Any]) -> str:
    return "" if case["schema"] in ("", "xsd-types") else str(case["schema"])


def _qname(text: str) -> tuple[str, str]:
    namespace, _, local = text[1:].partition("}")
    return namespace, local


def show(events: list[Event]) -> list[str]:
    """Events as the lines of an events.txt."""
    lines = ["SD"]
    for event in events:
        kind = event[0]
        if kind == "start":
            lines.append(f"SE {{{event[1]}}}{event[2]}")
        elif kind == "ns":
            lines.append(f"NS {event[1]}={event[2]}")
        elif kind == "attribute":
            lines.append(f"AT {{{event[1]}}}{event[2]}={_escaped(event[4])}")
        elif kind == "type":
            lines.append(f"AT {{{event[1]}}}{event[2]}={event[5]}")
        elif kind == "text":
            lines.append(f"CH {_escaped(event[1])}")
        elif kind == "end":
            lines.append("EE")
        elif kind == "comment":
            lines.append(f"CM {_escaped(event[1])}")
        elif kind == "instruction":
            lines.append(f"PI {event[1]} {_escaped(event[2])}")
    return [*lines, "ED"]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _comparable(lines: list[str]) -> list[str]:
    """Lines without what two decoders may write differently: the prefix of an xsi:type, white space behind a list, the form of a PI."""
    found = []
    for line in lines:
        if line.startswith("AT {http://www.w3.org/2001/XMLSchema-instance}type="):
            head, _, value = line.partition("=")
            line = f"{head}={value.rpartition(':')[2]}"
        if line.startswith(("CH ", "AT ", "PI ")):
            line = line.rstrip(" ")
        found.append(line)
    return found


def first_difference(ours: bytes, theirs: bytes) -> str:
    """Where two streams differ first, to the bit."""
    for at in range(max(len(ours), len(theirs))):
        a, b = ours[at : at + 1], theirs[at : at + 1]
        if a != b:
            if not a or not b:
                return f"bit {at * 8} (ours has {len(ours)} bytes, theirs {len(theirs)})"
            bit = at * 8 + 8 - (a[0] ^ b[0]).bit_length()
            return f"bit {bit} (byte {at}: ours {ours[at : at + 8].hex(' ')}, theirs {theirs[at : at + 8].hex(' ')})"
    return "none"


class Checker:
    """The cases and sessions of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._grammar: Callable[[str], Grammar] = cache(lambda name: compile_schemas(folder / "exi-schemas" / name))

    def run(self) -> tuple[int, list[Failure]]:
        """How many cases there are (a session is as many as it has bodies), and what failed."""
        total, failures = 0, []
        for count, failure in self._results():
            total += count
            if failure is not None:
                failures.append(failure)
        return total, failures

    def _results(self) -> Iterator[tuple[int, Failure | None]]:
        for path in sorted(self.folder.glob("*/case.json")):
            case = json.loads(path.read_text())
            yield 1, self._guard(path.parent.name, lambda path=path, case=case: self._case(path.parent, case))  # type: ignore[misc]
        for path in sorted(self.folder.glob("sessions/*/session.json")):
            yield from self._session(path.parent, json.loads(path.read_text()))

    @staticmethod
    def _guard(name: str, function: Callable[[], str | None]) -> Failure | None:
        try:
            reason = function()
        except (ExiError, ValueError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
        return None if reason is None else Failure(name, reason)

    def grammar(self, schema: str | None) -> Grammar | None:
        """The grammar of a schema under exi-schemas/; "" and "xsd-types" are the built-in types."""
        if schema is None:
            return None
        if schema in ("", "xsd-types"):
            from xiot.exi import builtin_types

            return builtin_types()
        return self._grammar(schema)

    def _case(self, folder: Path, case: dict[str, Any]) -> str | None:
        options = options_of(case)
        xml, oracle = (folder / case["files"]["xml"]).read_bytes(), (folder / case["files"]["exi"]).read_bytes()
        grammar = self.grammar(case["schema"])
        if case["status"] == "out-of-scope":
            return self._refused(xml, oracle, options, grammar)
        expected = _comparable((folder / case["files"]["events"]).read_text().splitlines())
        told = replace(options, in_header=False) if options.in_header else options
        events = decode_events(oracle, Options() if options.in_header and not case["schema"] else told, grammar)
        if (reason := _compare_events(events, expected)) is not None:
            return f"decode: {reason}"
        ours = encode(xml, options, grammar)
        again = decode_events(ours, told, grammar)
        if (reason := _compare_events(again, expected, unordered=not case["encode_must_match"])) is not None:
            return f"decode of our own: {reason}"
        if case["status"] in ("agreed", "one-oracle") and case["encode_must_match"] and ours != oracle:
            return f"encode: first differing {first_difference(ours, oracle)}"
        return None

    @staticmethod
    def _refused(xml: bytes, oracle: bytes, options: Options, grammar: Grammar | None) -> str | None:
        for what, function in (
            ("encode", lambda: encode(xml, options, grammar)),
            ("decode", lambda: decode_events(oracle, options, grammar)),
        ):
            try:
                function()
            except ExiError as error:
                if error.condition in ("unsupported", "damaged"):
                    continue
            return f"{what}: not refused"
        return None

    def _session(self, folder: Path, described: dict[str, Any]) -> Iterator[tuple[int, Failure | None]]:
        words = described["schema"].split()
        options = Options(strict="strict" in words)
        if "profile" in words:  # value length / capacity / local partitions / grammars / productions
            length, capacity, local, grammars, productions = (int(n) for n in words[-1].split("/"))
            options = replace(
                options,
                value_max_length=length,
                value_partition_capacity=capacity,
                local_value_partitions=bool(local),
                max_grammars=grammars,
                max_productions=productions,
            )
        grammar = None if words[0] == "none" else self.grammar(words[0])
        ours, theirs = (
            Session(options, grammar, keep=described["sessionWideBuffers"], header_per_body=True) for _ in range(2)
        )
        broken = False
        for path in sorted(folder.glob("*.xml")):
            name = f"sessions/{folder.name}/{path.stem}"

            def body(path: Path = path) -> str | None:
                oracle = path.with_suffix(".exi").read_bytes()
                expected = _comparable(path.with_suffix(".events").read_text().splitlines())
                if (reason := _compare_events(theirs.decode_events(oracle), expected)) is not None:
                    return f"decode: {reason}"
                made = ours.encode(path.read_bytes())
                return None if made == oracle else f"encode: first differing {first_difference(made, oracle)}"

            failure = Failure(name, "after a failure in this session") if broken else self._guard(name, body)
            broken = failure is not None
            yield 1, failure


def _compare_events(events: list[Event], expected: list[str], *, unordered: bool = False) -> str | None:
    kinds = ("AT ", "NS ") if unordered else ("NS ",)
    lines, expected = _in_order(_comparable(show(events)), kinds), _in_order(expected, kinds)
    for at, (ours, theirs) in enumerate(zip(lines, expected, strict=False)):
        if ours != theirs:
            return f"event {at}: ours {ours[:120]!r}, theirs {theirs[:120]!r}"
    if len(lines) != len(expected):
        return f"{len(lines)} events, not {len(expected)}"
    return None


def _in_order(lines: list[str], kinds: tuple[str, ...]) -> list[str]:
    """Lines with each run of these kinds sorted: their order means nothing."""
    found: list[str] = []
    run: list[str] = []
    for line in [*lines, ""]:
        if line.startswith(kinds):
            run.append(line)
            continue
        found += sorted(run)
        run = []
        found.append(line)
    return found[:-1]


def main(arguments: list[str] | None = None) -> int:
    """Print each failure and ``passed N of M``; 0 if all passed."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m xiot.exi.check DIR", file=sys.stderr)
        return 2
    folder = Path(given[0])
    if not folder.is_dir():
        print(f"no folder {folder}", file=sys.stderr)
        return 2
    total, failures = Checker(folder).run()
    for failure in failures:
        print(f"{failure.name}: {failure.reason}")
    print(f"passed {total - len(failures)} of {total}")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main())
