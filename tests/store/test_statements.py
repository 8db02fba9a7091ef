# SPDX-License-Identifier: Apache-2.0
"""No SQL is put together from strings, and whatever a client names a thing is kept as it is, and is nothing but a name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xiot

FILES = sorted(Path(next(iter(xiot.__path__))).rglob("*.py"))
RUN = {"execute", "executemany", "executescript", "exec_driver_sql", "scalar", "scalars", "text", "literal_column"}
"""What takes a statement, of SQLAlchemy and of sqlite3."""

VERBS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", "DROP ", "ALTER ", "PRAGMA ", "ATTACH ", "VACUUM ")


def put_together(source: str) -> list[str]:
    """The strings made at run time that are SQL, or go where SQL goes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if (isinstance(node, ast.Call) and _name(node.func) in RUN and node.args and _is_made(node.args[0])) or (
            _is_made(node) and _beginning(node).upper().startswith(VERBS)
        ):
            found.append(ast.unparse(node))
    return found


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_made(node: ast.AST) -> bool:
    """Whether it is a string with something put in, or two together."""
    if isinstance(node, ast.BinOp):
        return any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call):
        return (
            isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join") and _is_text(node.func.value)
        )
    return isinstance(node, ast.JoinedStr)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _beginning(node: ast.AST) -> str:
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return texts[0].lstrip() if texts else ""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('db.execute(f"SELECT {x}")', 2),
        ("db.execute(\"SELECT * FROM t WHERE a = '%s'\" % a)", 2),
        ('sa.text("a = " + a)', 1),
        ('sa.text("a = {}".format(a))', 1),
        ('sql = "DELETE FROM " + table', 1),
        ('sql = f"drop table {table}"', 1),
        ('db.execute("SELECT 1")', 0),
        ("self._execute(self._GET, {'jid_': bare})", 0),
        ('log(f"{n} selected")', 0),
    ],
)
def test_the_search_finds_what_it_should(source: str, found: int) -> None:
    assert len(put_together(source)) == found


@pytest.mark.security(row=71)
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FILES[0].parent)))
def test_no_statement_is_put_together_from_strings(file: Path) -> None:
    assert put_together(file.read_text(encoding="utf-8")) == []
