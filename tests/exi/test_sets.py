# SPDX-License-Identifier: Apache-2.0
"""The sets of schemas that come compiled: how small they make stanzas, that they lose nothing, and that ours is frozen."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.exi.documents import infoset, same, stanzas
from tests.shared import shared
from xiot.exi import ExiError, Grammar, Options, Session, decode, encode, xiot_schemas, xmpp_schemas
from xiot.exi.aliases import SCHEMAS, files, grammar, known, triples
from xiot.exi.compiler.tables import compile_files
from xiot.exi.sets import XIOT_1, XMPP

SETS = {"xmpp": xmpp_schemas, "xiot": xiot_schemas}
STEP = 1 if os.environ.get("XIOT_SOAK") == "1" else 9
READING = (
    b"<message xmlns='jabber:client' to='app@plant.example/1' id='7f'><fields xmlns='urn:xmpp:iot:sensordata' seqnr='1'><node nodeId='b1'>"
    b"<timestamp value='2026-01-01T00:00:00Z'><numeric name='Temperature' value='23.4' unit='C' momentary='true'/></timestamp></node></fields></message>"
)


# -- frozen


def test_the_xiot_set_is_frozen() -> None:
    listed = SCHEMAS / "xiot-1/hashes.txt"
    rows = [line.split() for line in listed.read_text().splitlines()[1:]]
    assert [(namespace, int(size), md5) for namespace, size, md5, _ in rows] == triples(XIOT_1)
    assert all(known(namespace, int(size), md5) == SCHEMAS / "xiot-1" / name for namespace, size, md5, name in rows)
    assert {f"xiot-1/{row[3].removesuffix('.xsd')}" for row in rows} == set(XIOT_1) - {"canonical"}
    # A peer of another release has to have the same: who changes a schema makes another version of the set.
    assert (
        hashlib.sha256(listed.read_bytes()).hexdigest()
        == "9cfdf63070bcf1809728a5035f9de9478a4f0f29314b146ce11ed6062476908c"
    )


def test_the_bits_of_the_xiot_set_are_frozen() -> None:
    assert (
        encode(READING, Options(strict=True), xiot_schemas()).hex()
        == "804410422a04565d34434c25cb80e9f25c74c2910612014126090d0840000b800b435ea71d29da5e39da9c0625d40300abc0"
    )
    assert (
        encode(READING, Options(), xiot_schemas()).hex()
        == "804410422a04565d34434c25cb80e9f25c74c2910611008824c120d0840000b800b41af538e94ed2f1ced4e03127500c02a5c0"
    )


def test_the_tables_of_both_sets_are_of_our_schemas_and_small() -> None:
    assert xiot_schemas().tables() == compile_files(files(XIOT_1), fragments=False)
    assert xmpp_schemas().tables() == compile_files(files(XMPP), fragments=False)
    assert xiot_schemas().size_bytes + xmpp_schemas().size_bytes <= 96 << 10


def test_what_two_ends_agree_on_has_the_tables_of_the_package_if_it_is_a_whole_set() -> None:
    for names, tables in ((XIOT_1, xiot_schemas), (XMPP, xmpp_schemas)):
        agreed = [path for triple in triples(names) if (path := known(*triple)) is not None]
        assert grammar(agreed) is tables()
    ping = known(*triples(["ping"])[0])
    assert ping is not None
    assert grammar([ping]).globals == 1


def test_schemas_of_one_namespace_and_of_both_sets_do_not_go_together() -> None:
    ours = SCHEMAS / "xiot-1/jabber-client.xsd"
    for agreed in (
        [SCHEMAS / "ping.xsd", ours],
        [ours, SCHEMAS / "ping.xsd"],
        [SCHEMAS / "delay.xsd", SCHEMAS / "delay-listed.xsd"],
    ):
        with pytest.raises(ValueError, match="two sets|two declarations of element {urn:xmpp:delay}delay"):
            grammar(agreed)


# -- sizes


@cache
def sizes() -> Any:
    return json.loads(shared("data/corpus/sizes.json").read_text())


def measured(tables: Grammar, **options: Any) -> dict[str, list[int | None]]:
    """Bytes of each stanza of the corpus: alone, in a new session, and in its third round."""

    def size(session: Session, xml: bytes) -> int | None:
        try:
            return len(session.encode(xml))
        except ExiError as error:
            assert error.condition == "strict"
            return None

    chosen, found = Options(**options), {}
    alone, ways = Session(chosen, tables), {way: Session(chosen, tables, keep=True) for way in "ud"}
    for name in ("r0", "r1", "r2"):
        bodies = [(way, (shared("data/corpus") / name / file).read_bytes()) for file, _, way, _ in sizes()["idx"]]
        if name == "r0":
            found["fresh"] = [size(alone, xml) for _, xml in bodies]
        found[name] = [size(ways[way], xml) for way, xml in bodies]
    return found


def test_sizes_by_our_schemas_are_those_of_the_reference() -> None:
    loose, strict = measured(xmpp_schemas()), measured(xmpp_schemas(), strict=True)
    assert loose["fresh"] == sizes()["M"]["exi:def-iot"]
    assert loose["r0"] == sizes()["M"]["sess-iot-cold"]
    assert loose["r2"] == sizes()["M"]["sess-iot-warm"]
    assert strict["fresh"] == sizes()["M"]["exi:strict-iot"]


def test_the_xiot_set_is_as_much_smaller_as_it_says() -> None:
    ours, theirs = measured(xiot_schemas()), measured(xmpp_schemas())

    def ratio(name: str) -> float:
        return sum(size or 0 for size in ours[name]) / sum(size or 0 for size in theirs[name])

    assert ratio("fresh") <= 0.82  # 0.90 is what was asked for
    assert ratio("r0") <= 0.85  # 0.96
    assert ratio("r2") <= 0.89  # 0.95
    assert (
        None not in measured(xiot_schemas(), strict=True)["fresh"]
    )  # 4 stanzas of the corpus are not those of the XEPs' schemas


def test_on_all_examples_of_the_xeps_the_xiot_set_is_smaller() -> None:
    whole = [
        sum(len(encode(xml, Options(), tables())) for xml in stanzas()[::STEP])
        for tables in (xiot_schemas, xmpp_schemas)
    ]
    assert whole[0] < 0.9 * whole[1]


# -- nothing is lost

MODES = {
    "default": Options(),
    "strict": Options(strict=True),
    "lexical": Options(lexical=True),
    "prefixes": Options(prefixes=True, comments=True, pis=True),
    "bytes": Options(alignment="byte-aligned"),
    "pre-compression": Options(alignment="pre-compression"),
    "compression": Options(compression=True),
    "limits": Options(value_max_length=64, value_partition_capacity=64),
    "profile": Options(value_max_length=64, value_partition_capacity=64, local_value_partitions=False, max_grammars=0, max_productions=0),
}  # fmt: skip


def without_bounds(xml: bytes) -> bytes:
    """Without the xsi:type that an encoder writes where the Profile forbids it to learn (EXI Profile, section 3.3)."""
    return re.sub(rb' \w+:type="\w+:anyType"', b"", xml)


@pytest.mark.parametrize("tables", SETS.values(), ids=SETS)
@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_every_stanza_survives_in_every_mode_that_can_carry_it(options: Options, tables: Any) -> None:
    carried = 0
    options = replace(options, plain_numbers=True)
    for xml in stanzas()[:: 1 if options == Options() else STEP]:
        try:
            data = encode(xml, options, tables())
        except ExiError as error:
            assert options.strict
            assert error.condition == "strict"
            continue
        out = without_bounds(decode(data, options, tables()))
        assert same(infoset(out), infoset(xml)), xml
        assert encode(out, options, tables()) == data
        carried += 1
    assert carried > (0.7 if options.strict else 0.99) * len(stanzas()[::STEP])


@pytest.mark.parametrize("tables", SETS.values(), ids=SETS)
@pytest.mark.parametrize("name", ["default", "limits", "profile"])
def test_every_stanza_survives_in_a_session(name: str, tables: Any) -> None:
    options = replace(MODES[name], plain_numbers=True)
    ours, theirs = (Session(options, tables(), keep=True) for _ in range(2))
    for xml in stanzas()[::STEP]:
        assert same(infoset(without_bounds(theirs.decode(ours.encode(xml)))), infoset(xml)), xml


def test_what_the_xmpp_set_carries_in_strict_mode_the_xiot_set_carries_too() -> None:
    def carries(xml: bytes, tables: Grammar) -> bool:
        try:
            return bool(encode(xml, Options(strict=True), tables))
        except ExiError:
            return False

    lost = [xml for xml in stanzas() if carries(xml, xmpp_schemas()) and not carries(xml, xiot_schemas())]
    assert [xml.count(b"action='completed'") for xml in lost] == [1]  # no action of a command: a slip in XEP-0060
    assert sum(carries(xml, xiot_schemas()) for xml in stanzas()) > 1.1 * sum(
        carries(xml, xmpp_schemas()) for xml in stanzas()
    )
