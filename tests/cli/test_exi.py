# SPDX-License-Identifier: Apache-2.0
"""``xiot exi`` on files."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from tests.exi.documents import infoset
from tests.shared import ROOT
from xiot.cli.main import main

SCHEMA = str(ROOT / "tests/vectors/exi/exi-schemas/vec/types.xsd")
XML = b"<all xmlns='urn:t:types'><int>5</int><dbl>23.4</dbl></all>"


def run(*arguments: str | Path, input: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["exi", *map(str, arguments)], input=input)


def test_what_is_encoded_is_decoded(tmp_path: Path) -> None:
    tables, data = tmp_path / "types.xeg", tmp_path / "a.exi"
    assert "1 global" not in run("compile", SCHEMA, "-o", tables).output
    assert "tables, " in run("info", tables).output
    assert run("encode", "--schema", tables, "--in-header", "--schema-id", "t", "-o", data, input=XML).exit_code == 0
    assert data.stat().st_size < len(XML) / 3
    out = run("decode", "--schema", SCHEMA, "--plain-numbers", data)
    assert infoset(out.stdout_bytes) == infoset(XML)
    assert "schema_id: t" in run("info", data).output


def test_options_reach_the_codec(tmp_path: Path) -> None:
    data = tmp_path / "a.exi"
    options = ["--alignment", "pre-compression", "--preserve", "comments", "--value-max-length", "3"]
    assert run("encode", *options, "-o", data, input=b"<a><!--x-->text</a>").exit_code == 0
    assert run("decode", *options, data).stdout_bytes == b"<a><!--x-->text</a>"


def test_schemas_that_are_not_equal_are_told_apart(tmp_path: Path) -> None:
    other = tmp_path / "types.xsd"
    other.write_text(Path(SCHEMA).read_text().replace('name="dbl"', 'name="double"'))
    assert run("equal", SCHEMA, SCHEMA).output == "equal\n"
    told = run("equal", SCHEMA, other)
    assert told.exit_code == 1
    assert "urn:t:types: names: missing | double" in told.output


def test_failures_are_one_line(tmp_path: Path) -> None:
    for result in (
        run("encode", input=b"<a>"),
        run("decode", input=b"nothing"),
        run("encode", "--strict", "--preserve", "pis", input=b"<a/>"),
        run("encode", "--schema", SCHEMA, "--strict", input=b"<all xmlns='urn:t:types'><x/></all>"),
        run("compile", ROOT / "tests/vectors/exi/st-seq/input.xml", "-o", tmp_path / "x.xeg"),
    ):
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1


def test_compare_prints_a_row_a_file_and_their_sum(tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_bytes(XML)
    result = run("compare", "--schema", SCHEMA, tmp_path / "a.xml", tmp_path / "b.xml")
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines() if ".xml" in line or line.startswith(" sum")]
    assert [row[0] for row in rows] == ["a.xml", "b.xml", "sum"]
    assert [int(row[1]) for row in rows] == [len(XML), len(XML), 2 * len(XML)]
    assert "strict" in result.output


def test_compare_has_both_sets_beside_one_another_if_no_schema_is_given(tmp_path: Path) -> None:
    ping = tmp_path / "ping.xml"
    ping.write_bytes(
        b"<iq xmlns='jabber:client' id='7f' to='a@example.org' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    output = run("compare", ping).output
    assert "xeps  xiot" in output
    (line,) = (text for text in output.splitlines() if "ping.xml" in text)
    xml, _, without, xeps, xiot, *sessions = map(int, line.split()[1:])
    assert xml > without > xeps > xiot
    assert sessions == [without, xeps, xiot]  # the first of a session is like one alone
