# SPDX-License-Identifier: Apache-2.0
"""The extensions that come with xiot, together."""

import ast
from pathlib import Path

import pytest

import xiot.xep
from xiot.ext import dispatch_table, specification_table
from xiot.xep import STANDARD, standard

FILES = sorted(Path(next(iter(xiot.xep.__path__))).glob("[!_]*.py"))


def test_every_file_is_standard_and_its_extension_has_its_name() -> None:
    assert [file.stem for file in FILES] == list(STANDARD)
    assert [extension.name for extension in standard()] == list(STANDARD)


def test_no_two_claim_the_same_iq() -> None:
    dispatch_table(standard())


def test_every_one_is_in_the_table_of_specifications() -> None:
    table = specification_table(standard())
    assert all(f"| {extension.spec} |" in table for extension in standard())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_sibling_is_imported_only_if_it_is_needed(file: Path) -> None:
    siblings = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "xiot.xep":
            siblings |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xiot.xep."):
            siblings.add((node.module or "").removeprefix("xiot.xep."))
    needs = next(extension.needs for extension in standard() if extension.name == file.stem)
    assert siblings <= set(needs)
