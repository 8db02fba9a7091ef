# SPDX-License-Identifier: Apache-2.0
"""How many bytes stanzas take: the tables of the README, by XMPP's encodings and by MQTT with JSON and CBOR in the framing of its own.

    python benches/sizes.py [FOLDER]      FOLDER: the corpus, else data/corpus of XIOT_SHARED or of the folder `shared` beside this repository

The corpus is three rounds of the same 43 stanzas, up and down a link; ids, values and times differ. Sessions have one compressor, or one
table of strings, in each direction. The reading is one of the 43: what MQTT sends is the same thing, moment, quantity, unit and value.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from xiot.exi import Grammar, Options, Session, xiot_schemas, xmpp_schemas

Size = Callable[[bytes, str, bool], int]  # of a stanza that goes up or down, in a session or alone
READING = "25-u-sensor-fields-1.xml"
ASKS, ANSWERS = b"<r xmlns='urn:xmpp:sm:3'/>", b"<a xmlns='urn:xmpp:sm:3' h='3'/>"
ROUNDS = ("r0", "r1", "r2")


def corpus() -> Path:
    """The folder of the corpus."""
    shared = Path(os.environ.get("XIOT_SHARED") or Path(__file__).parents[2] / "shared")
    return Path(sys.argv[1]) if __name__ == "__main__" and len(sys.argv) > 1 else shared / "data/corpus"


# -- encodings of XMPP


def within(xml: bytes) -> bytes:
    """A stanza as it stands in a stream, which has declared the namespace."""
    return xml.replace(b" xmlns='jabber:client'", b"", 1)


def plain(xml: bytes, way: str, session: bool) -> int:
    return len(within(xml))


def deflate() -> Size:
    streams = {way: zlib.compressobj(9, zlib.DEFLATED, -15) for way in "ud"}

    def size(xml: bytes, way: str, session: bool) -> int:
        stream = streams[way] if session else zlib.compressobj(9, zlib.DEFLATED, -15)
        return len(stream.compress(within(xml)) + stream.flush(zlib.Z_SYNC_FLUSH if session else zlib.Z_FINISH))

    return size


def exi(grammar: Grammar | None) -> Size:
    alone, kept = Session(Options(), grammar), {way: Session(Options(), grammar, keep=True) for way in "ud"}
    return lambda xml, way, session: len((kept[way] if session else alone).encode(xml))


ENCODINGS: dict[str, Callable[[], Size]] = {
    "XML": lambda: plain,
    "XML, deflate": deflate,
    "EXI without schemas": lambda: exi(None),
    "EXI, the XEPs' schemas": lambda: exi(xmpp_schemas()),
    "EXI, the xiot set": lambda: exi(xiot_schemas()),
}


def measure(size: Size, folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of each stanza by name: "alone", and in a session's rounds "r0", "r1", "r2"."""
    found: dict[str, dict[str, int]] = {"alone": {}}
    for name in ROUNDS:
        found[name] = {}
        for path in sorted((folder / name).glob("*.xml")):
            xml, way = path.read_bytes(), path.name.split("-")[1]
            if name == "r0":
                found["alone"][path.name] = size(xml, way, False)
            found[name][path.name] = size(xml, way, True)
    return found


# -- MQTT


def cbor(value: object) -> bytes:
    """A value in CBOR (RFC 8949); a float as a decimal fraction if that is shorter, which here it is."""

    def head(major: int, number: int) -> bytes:
        for extra, size in ((24, 1), (25, 2), (26, 4)):
            if number < 24:
                return bytes([major << 5 | number])
            if number < 1 << 8 * size:
                return bytes([major << 5 | extra]) + number.to_bytes(size, "big")
        raise ValueError(number)

    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        digits, _, fraction = repr(value).partition(".")
        return head(6, 4) + cbor([-len(fraction), int(digits + fraction)])
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())
    raise TypeError(type(value))


def publish(topic: str, payload: bytes, *, alias: bool | None = None) -> int:
    """Bytes of a PUBLISH of QoS 0: MQTT 3.1.1 (section 3.3), or 5 with a topic alias, the first time (False) and later (True)."""
    name = b"" if alias else topic.encode()
    properties = b"" if alias is None else b"\x03\x23\x00\x01"
    rest = 2 + len(name) + len(properties) + len(payload)
    return 1 + (1 if rest < 128 else 2) + rest


def facts(xml: str) -> tuple[str, int, str, float]:
    """Of a reading in XML: node, seconds since 1970, field, value; its unit is the degree Celsius."""
    node, time, name, value = (
        re.search(f"{key}='([^']*)'", xml)[1]  # type: ignore[index]
        for key in ("nodeId", "timestamp value", "numeric name", "automaticReadout='true' value")
    )
    return node, int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()), name, float(value)


def mqtt(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes of the first and of a later reading, by encoding; SenML is RFC 8428."""
    rows: dict[str, tuple[int, int]] = {}
    first, later = (facts((folder / name / READING).read_text()) for name in ("r0", "r2"))
    topic = "sensors/thermo-7f3a"

    def senml(fact: tuple[str, int, str, float]) -> tuple[bytes, bytes]:
        node, time, name, value = fact
        text = json.dumps([{"bn": node, "bt": time, "n": name, "u": "Cel", "v": value}], separators=(",", ":"))
        return text.encode(), cbor([{-2: node, -3: time, 0: name, 1: "Cel", 2: value}])

    def bare(fact: tuple[str, int, str, float]) -> tuple[bytes, bytes]:
        pair = [fact[1], fact[3]]
        return json.dumps(pair, separators=(",", ":")).encode(), cbor(pair)

    for shape, write in (("SenML", senml), ("time and value alone", bare)):
        for which, form in enumerate(("JSON", "CBOR")):
            payloads = write(first)[which], write(later)[which]
            says = f"{form}, {shape}"
            rows[f"MQTT 3.1.1, {says}"] = publish(topic, payloads[0]), publish(topic, payloads[1])
            rows[f"MQTT 5 with an alias, {says}"] = (
                publish(topic, payloads[0], alias=False),
                publish(topic, payloads[1], alias=True),
            )
    return rows


# -- tables


def tables(folder: Path) -> str:
    """What the README has, as Markdown."""
    found = {name: measure(made(), folder) for name, made in ENCODINGS.items()}
    count = len(found["XML"]["alone"])
    lines = [f"| {count} stanzas | alone | in a new session | in a warm one |", "| --- | --- | --- | --- |"]
    for name, sizes in found.items():
        lines.append(f"| {name} | " + " | ".join(f"{sum(sizes[r].values()):,}" for r in ("alone", "r0", "r2")) + " |")
    lines += ["", "| one reading | the first | later |", "| --- | --- | --- |"]
    for name, sizes in found.items():
        lines.append(f"| {name} | {sizes['alone'][READING]} | {sizes['r2'][READING]} |")
    lines += [f"| {name} | {first} | {later} |" for name, (first, later) in mqtt(folder).items()]
    lines += ["", "| is the other end there? | asked | answered |", "| --- | --- | --- |"]
    for name, made in ENCODINGS.items():
        if name in ("XML", "EXI, the XEPs' schemas", "EXI, the xiot set"):
            lines.append(f"| XEP-0198, {name} | {made()(ASKS, 'u', False)} | {made()(ANSWERS, 'd', False)} |")
    lines.append("| MQTT, PINGREQ and PINGRESP | 2 | 2 |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables(corpus()))
