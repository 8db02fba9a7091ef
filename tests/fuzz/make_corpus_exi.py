# SPDX-License-Identifier: Apache-2.0
"""Writes what fuzz_exi.c begins with: ``python -m tests.fuzz.make_corpus_exi FOLDER TABLES``, from the vectors in the tree.

``python -m tests.fuzz.make_corpus_exi`` alone writes corpus/exi anew: stanzas of ours, as our encoder codes them.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from _xmppcore.xml import StreamParser
from tests.shared import ROOT
from xiot.cli import corpora
from xiot.exi import Options, Session, compile_schemas

VECTORS = ROOT / "tests/vectors/exi"
ALIGNMENTS = {"bit-packed": 0, "byte-alignment": 1, "pre-compression": 2}


def main(folder: Path, tables: Path) -> None:
    """Each vector as bits and as XML, with the tables of its schema: those of types.xsd by name, others in front."""
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_bytes(compile_schemas(VECTORS / "exi-schemas/vec/types.xsd").tables())
    other = compile_schemas(VECTORS / "exi-schemas/vec/struct.xsd").tables()
    for path in sorted(VECTORS.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["status"] == "out-of-scope" or case["header"]["options"] or case["header"]["cookie"]:
            continue
        keep = case["preserve"]
        first = case["strict"] | case["fragment"] << 1 | keep["comments"] << 2 | keep["pis"] << 3
        first |= keep["prefixes"] << 4 | keep["lexical"] << 5 | ALIGNMENTS.get(case["alignment"], 3) << 6
        second, front = {"vec/types.xsd": 32, "vec/struct.xsd": 128}.get(case["schema"], 0), b""
        if second == 128:
            front = struct.pack(">H", len(other)) + other
        xml = (path.parent / case["files"]["xml"]).read_bytes()
        (folder / f"{path.parent.name}.xml").write_bytes(bytes([first, second | 64]) + front + xml)
        if case["alignment"] in ALIGNMENTS:
            bits = (path.parent / case["files"]["exi"]).read_bytes()[1:]
            (folder / f"{path.parent.name}.exi").write_bytes(bytes([first, second]) + front + bits)


OURS = [
    (0, 0, Options()),
    (1 << 6, 0, Options(alignment="byte-aligned")),
    (2 << 6, 0, Options(alignment="pre-compression")),
    (1 << 4 | 1 << 5, 2, Options(prefixes=True, lexical=True, value_max_length=8, value_partition_capacity=3)),
]
"""The octets of options in fuzz_exi.c, and what they say."""


def ours(folder: Path) -> None:
    """Stanzas as XML and as bits, without a schema."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("chat", "iot", "unicode"):
        events = StreamParser().feed(corpora.make(kind, 6_000).data)[1:-1]
        for i, event in enumerate(events[:16]):
            first, second, options = OURS[i % len(OURS)]
            xml = event.element.tobytes()
            (folder / f"{kind}-{i}.xml").write_bytes(bytes([first, second | 64]) + xml)
            (folder / f"{kind}-{i}.exi").write_bytes(bytes([first, second]) + Session(options).encode(xml))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        ours(Path(__file__).parent / "corpus" / "exi")
