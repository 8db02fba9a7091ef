# SPDX-License-Identifier: Apache-2.0
"""Whether two sets of schemas give the same bits, and where not.

Equal means: each document has the same event codes, the same numbers of names and the same representations of values, whatever the
options. How a schema is written (groups, anonymous or shared parts, order of declarations) does not matter. Names of global types do:
they stand in the string table (EXI section 7.3.1) and in xsi:type.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .charset import charset
from .tables import AT, AT_ANY, AT_NS, CH, NONE, SE, SE_ANY, SE_NS, _Compiler, _kind, _patterns, _State
from .xsd import ComplexType, Element, Name, SimpleType, read

_WORDS = {AT: "@", AT_NS: "@", AT_ANY: "@*", SE: "", SE_NS: "", SE_ANY: "*", CH: "text"}
_SHOWN = 4  # words of a state in a difference


class Difference(NamedTuple):
    """One thing that is not equal: the namespace whose declaration it is, the way to it, and what each side has there."""

    namespace: str
    path: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.namespace or '(no namespace)'}: {self.path}: {self.ours} | {self.theirs}"


class _Comparison:
    def __init__(self, ours: _Compiler, theirs: _Compiler) -> None:
        self.ours, self.theirs = ours, theirs
        self.castable = ours._castable(), theirs._castable()
        self.found: list[Difference] = []
        self.namespace = ""
        self.seen: set[tuple[int, int]] = set()
        # What stands for the same on both sides, still to be compared: (namespace, path, ours, theirs)
        self.waiting: list[tuple[str, str, Any, Any]] = []

    def run(self) -> None:
        ours, theirs = self.ours.schema, self.theirs.schema
        self._sets("namespaces", self.ours.uris, self.theirs.uris)
        self._sets("names", self.ours.names, self.theirs.names)
        for what in ("elements", "attributes", "types"):
            here, there = getattr(ours, what), getattr(theirs, what)
            self._sets(what, here, there)
            for name in sorted(here.keys() & there.keys()):
                self.waiting.append((name[0], f"{what[:-1]} {name[1]}", here[name], there[name]))
        self._walk()
        fragments = [
            [(name, number == NONE) for name, number in side.fragment_elements] for side in (self.ours, self.theirs)
        ]
        self._sets("elements of fragments, and whether declared differently", *fragments)
        if self.ours.relaxed is not None and self.theirs.relaxed is not None:
            for here, there in zip(self.ours.relaxed, self.theirs.relaxed, strict=True):
                self.waiting.append(("", "in fragments", here, there))
            self._walk()

    def _differ(self, path: str, ours: object, theirs: object) -> None:
        self.found.append(Difference(self.namespace, path, str(ours), str(theirs)))

    def _sets(self, what: str, ours: Iterable[Any], theirs: Iterable[Any]) -> None:
        here, there = set(ours), set(theirs)
        for side, more in ((0, here - there), (1, there - here)):
            for entry in sorted(more):
                self.namespace, words = entry if what == "names" else (_namespace(entry), entry)
                shown = (str(words), "missing")
                self._differ(what, *(reversed(shown) if side else shown))

    def _walk(self) -> None:
        while self.waiting:
            self.namespace, path, ours, theirs = self.waiting.pop()
            if (id(ours), id(theirs)) in self.seen:
                continue
            self.seen.add((id(ours), id(theirs)))
            if isinstance(ours, _State):
                self._states(path, ours, theirs)
            elif isinstance(ours, Element):
                if ours.nillable != theirs.nillable:
                    self._differ(path, f"nillable={ours.nillable}", f"nillable={theirs.nillable}")
                self._types(path, ours.type, theirs.type)
            elif isinstance(ours, (SimpleType, ComplexType)):
                self._types(path, ours, theirs)
            else:
                self._datatypes(path, ours.type, theirs.type)

    def _types(self, path: str, ours: SimpleType | ComplexType, theirs: SimpleType | ComplexType) -> None:
        castable = ours in self.castable[0], theirs in self.castable[1]
        if castable[0] != castable[1]:
            self._differ(path, *(f"xsi:type {'may' if may else 'does not'} replace it" for may in castable))
        for what, here, there in zip(("", " if nil"), self.ours.starts[ours], self.theirs.starts[theirs], strict=True):
            self.waiting.append((self.namespace, path + what, here, there))

    def _states(self, path: str, ours: _State, theirs: _State) -> None:
        here, there = _words(ours), _words(theirs)
        if here != there:
            self._differ(path, *_from_where_they_part(here, there))
            return
        if ours.kind != theirs.kind:
            self._differ(path, *(("first", "start tag", "content")[state.kind] for state in (ours, theirs)))
            return
        self.waiting.append((self.namespace, path, ours.content, theirs.content))
        for (kind, name, argument, after), (_, _, other, after_there) in zip(
            ours.productions, theirs.productions, strict=True
        ):
            step = f"{path}/{_WORDS[kind]}{_show(name)}"
            if argument is None:
                pass  # a wildcard
            elif NONE in (
                argument,
                other,
            ):  # text of mixed content; elements of a fragment that are declared differently
                if argument != other:
                    self._differ(step, *("untyped" if number == NONE else "typed" for number in (argument, other)))
            elif kind == SE:
                self.waiting.append((name[0], step, self.ours.elements[argument], self.theirs.elements[other]))
            else:
                self._datatypes(step, self.ours.datatypes[argument], self.theirs.datatypes[other])
            if after is not None:
                self.waiting.append((self.namespace, step, after, after_there))

    def _datatypes(self, path: str, ours: SimpleType, theirs: SimpleType) -> None:
        here, there = _datatype(ours), _datatype(theirs)
        if here != there:
            self._differ(path, *(" ".join(f"{k}={v}" for k, v in side.items()) for side in (here, there)))


def _namespace(entry: Any) -> str:
    return entry if isinstance(entry, str) else _namespace(entry[0])


def _show(name: Name | str | None) -> str:
    return "" if name is None else f"{{{name}}}*" if isinstance(name, str) else f"{{{name[0]}}}{name[1]}"


def _words(state: _State) -> list[str]:
    """What a state accepts, in the order of event codes."""
    words = [f"{_WORDS[kind]}{_show(name)}" for kind, name, _, _ in state.productions]
    return [*words, *(["end"] if state.ee else [])] or ["nothing"]


def _from_where_they_part(ours: list[str], theirs: list[str]) -> tuple[str, str]:
    shorter = min(len(ours), len(theirs))
    at = next((n for n in range(shorter) if ours[n] != theirs[n]), shorter)

    def shown(words: list[str]) -> str:
        rest = words[at : at + _SHOWN] or ["nothing more"]
        return " ".join([*(["..."] if at else []), *rest, *(["..."] if len(words) > at + _SHOWN else [])])

    return shown(ours), shown(theirs)


def _datatype(made: SimpleType) -> dict[str, Any]:
    """All that decides how a value is represented, also if a datatype representation map names one of its bases."""
    listed = made.enumeration if made.primitive not in ("list", "union", "QName", "NOTATION") else None
    bases, step = [], made
    while True:
        bases.append(step.name)
        if step.base is None:
            break
        step = step.base
    return {
        "kind": _kind(made),
        "bounds": made.bounds,
        "enumeration": listed,
        "characters": charset(_patterns(made)) if made.primitive == "string" and _patterns(made) else None,
        "collapse": made.collapse,
        "names": [name for name in bases if name is not None],
        "item": None if made.item is None else _datatype(made.item),
    }


def differences(ours: Iterable[Path], theirs: Iterable[Path]) -> list[Difference]:
    """What is not grammar-equal between two sets of schema files, each with all that it imports; empty if they are equal.

    Raises `SchemaError` and `OSError` as `read` does.
    """
    sides = []
    for files in (ours, theirs):
        compiler = _Compiler(read(files), fragments=True)
        compiler.compile()
        sides.append(compiler)
    comparison = _Comparison(*sides)
    comparison.run()
    return sorted(set(comparison.found))
