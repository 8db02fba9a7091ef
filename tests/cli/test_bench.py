# SPDX-License-Identifier: Apache-2.0
"""``xiot bench``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from _xmppcore import scan
from xiot.cli import bench, corpora, rivals
from xiot.cli.main import main


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE_BYTES", 20_000)
    monkeypatch.setattr(bench, "SHARE_S", 0.001)
    monkeypatch.setattr(bench, "TURNS", 2)


def test_figures_for_programs_name_the_machine_and_every_rival() -> None:
    told = json.loads(CliRunner().invoke(main, ["bench", "--json"]).stdout)
    assert told["kernel"] in scan.kernels()
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert figures["read chat"]["times"].keys() == {"pyexpat", "ElementTree", "lxml"}
    assert figures["read chat"]["times"]["pyexpat"] > 2
    assert figures["route chat"]["times"]["pyexpat"] > 2
    assert figures["JID of a str"]["bytes_per_s"] is None
    for figure in figures.values():
        assert figure["per_s"] == pytest.approx(1e9 / figure["each_ns"], rel=0.01)


def test_figures_for_people_are_a_table_that_fits() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["bench"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines[1:]), lines
    assert [line for line in lines if line.startswith("route chat") and " x" in line]


@pytest.mark.parametrize("kind", ["chat", "iot", "unicode", "tiny"])
def test_all_readers_see_all_stanzas(kind: str) -> None:
    corpus = corpora.make(kind, 20_000)
    pieces = rivals.split(corpus.data, 100)
    readers = (
        rivals.read,
        rivals.read_trees,
        rivals.expat_no_op,
        rivals.expat_tree,
        rivals.etree_pull,
        rivals.lxml_pull,
    )
    assert [read(pieces) for read in readers] == [corpus.stanzas] * len(readers)


def test_both_routers_put_out_the_same() -> None:
    """To the byte, but for the quotes that the rival chooses."""
    corpus = rivals.to_route("chat", 20_000)
    stamps = corpus.stanzas * len(f" from='{rivals.SENDER}'")
    ours, theirs = (sum(map(make(), rivals.split(corpus.data))) for make in (rivals.router, rivals.expat_handlers))
    assert ours == len(corpus.data) + stamps
    assert abs(theirs - ours) < 0.02 * ours
