# SPDX-License-Identifier: Apache-2.0
"""Schemas to the tables that the codec reads (EXI sections 8.5.4 and 7.3.1). The format is described in `_xmppcore/c/exi_grammar.h`.

Theory of operation. A content model becomes an automaton: its leaves, with their repetitions written out, are the positions; a state is the
set of positions that may have been read last. That is what the normalised grammars of the specification come to, since event codes depend
only on what a state accepts and on the order of the leaves. In front of it there is one state for each attribute that may still come.
States that accept the same and go to the same are one. Undeclared productions are not in the tables: the codec adds them by rule.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .charset import charset
from .xsd import (
    BUILT_IN,
    XML,
    XSD,
    XSI,
    ComplexType,
    Element,
    Group,
    Limits,
    Name,
    Particle,
    Schema,
    SchemaError,
    SimpleType,
    Wildcard,
    read,
)

CANONICAL = "urn:xmpp:exi:cs"
NONE = 0xFFFF

# Kinds of states and productions, kinds of datatypes: as in exi_grammar.h.
FIRST, START, CONTENT = range(3)
AT, AT_NS, AT_ANY, SE, SE_NS, SE_ANY, EE, CH = range(8)
(
    STRING, BOOLEAN, BOOLEAN_PATTERN, NBIT, UNSIGNED, INTEGER, DECIMAL, FLOAT, DATETIME, DATE, TIME, GYEAR, GYEARMONTH, GMONTHDAY,
    GMONTH, GDAY, BASE64, HEX, ENUM, LIST,
) = range(20)  # fmt: skip
_KINDS = {
    "boolean": BOOLEAN, "decimal": DECIMAL, "float": FLOAT, "double": FLOAT, "dateTime": DATETIME, "date": DATE, "time": TIME,
    "gYear": GYEAR, "gYearMonth": GYEARMONTH, "gMonthDay": GMONTHDAY, "gMonth": GMONTH, "gDay": GDAY,
    "base64Binary": BASE64, "hexBinary": HEX, "list": LIST,
}  # fmt: skip

# Characters of values whose lexical form is preserved (EXI section 7, table 7-2).
_SPACE = "\t\n\r "
_DIGITS = "0123456789"
_LEXICAL = {
    BASE64: _SPACE + "+/=" + _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    HEX: _SPACE + _DIGITS + "ABCDEFabcdef",
    BOOLEAN: _SPACE + "01aeflrstu",
    DATETIME: _SPACE + "+-.:TZ" + _DIGITS,
    DECIMAL: _SPACE + "+-." + _DIGITS,
    FLOAT: _SPACE + "+-.EFINae" + _DIGITS,
    INTEGER: _SPACE + "+-" + _DIGITS,
}
_RANGE = 4096  # integers of at most so many values are n-bit numbers (EXI section 7.1.5)
_ROW = 6  # bytes of a production
_LABELS = {AT_NS: 0xF000, AT_ANY: 0xFFFC, SE_NS: 0xF800, SE_ANY: 0xFFFD, EE: 0xFFFE, CH: 0xFFFF, AT: 0, SE: 0}
_INITIAL_NAMES = {XML: ["base", "id", "lang", "space"], XSI: ["nil", "type"]}


@dataclass(eq=False)
class _State:
    kind: int
    ee: bool = False
    # (kind, name or uri, element / datatype / None, next state)
    productions: list[tuple[int, Any, Any, _State | None]] = field(default_factory=list)
    content: _State | None = None
    number: int = -1
    cls: int = -1


class _Model:
    """The positions of one content model."""

    def __init__(self, schema: Schema) -> None:
        self.leaves: list[tuple[int, Element | Wildcard]] = []  # (order of the leaf, term)
        self.follow: list[set[int]] = []
        self.schema, self.limits = schema, schema.limits
        self._order = self._pairs = 0

    def add(self, particle: Particle) -> tuple[set[int], set[int], bool]:
        """First positions, last positions, and whether it may be empty."""
        order = self._order
        first: set[int] = set()
        last: set[int] = set()
        empty = True
        copies = particle.least + 1 if particle.most is None else particle.most
        for copy in range(copies):
            self._order = order  # repetitions are the same leaves
            f, b, e = self._term(particle.term)
            if particle.most is None and copy == particle.least:
                self._link(b, f)
            e = e or copy >= particle.least
            self._link(last, f)
            if empty:
                first |= f
            last = last | b if e else b
            empty = empty and e
        return first, last, empty

    def _link(self, last: set[int], first: set[int]) -> None:
        self._pairs += len(last) * len(first)
        if self._pairs > self.limits.pairs:
            raise SchemaError(f"a content model of more than {self.limits.pairs} pairs of particles")
        for position in last:
            self.follow[position] |= first

    def _term(self, term: Element | Wildcard | Group) -> tuple[set[int], set[int], bool]:
        if not isinstance(term, Group):
            if len(self.leaves) >= self.limits.particles:
                raise SchemaError(f"a content model of more than {self.limits.particles} particles")
            self.schema.check_time()
            self.leaves.append((self._order, term))
            self.follow.append(set())
            self._order += 1
            position = len(self.leaves) - 1
            return {position}, {position}, False
        if term.kind == "sequence":
            first: set[int] = set()
            last: set[int] = set()
            empty = True
            for particle in term.particles:
                f, b, e = self.add(particle)
                self._link(last, f)
                if empty:
                    first |= f
                last = last | b if e else b
                empty = empty and e
            return first, last, empty
        parts = [self.add(particle) for particle in term.particles]
        first = set().union(*(f for f, _, _ in parts))
        last = set().union(*(b for _, b, _ in parts))
        if term.kind == "all":  # any order, any number of times (EXI section 8.5.4.1.8.3)
            self._link(last, first)
            return first, last, True
        return first, last, not parts or any(e for _, _, e in parts)


class _Compiler:
    def __init__(self, schema: Schema, fragments: bool) -> None:
        self.schema = schema
        self.fragments = fragments
        self.states: list[_State] = []
        self.contents: dict[Any, _State] = {}
        self.starts: dict[Any, tuple[_State, _State]] = {}  # type -> grammar, grammar after xsi:nil
        self.uris = self._uris()
        self.names = self._names()
        self.name_ids = {name: number for number, name in enumerate(self.names)}
        self.uri_ids = {uri: number for number, uri in enumerate(self.uris)}
        self.types: list[SimpleType | ComplexType] = []
        self.datatypes: list[SimpleType] = []
        self.datatype_ids: dict[Any, int] = {}
        self.same_datatypes: dict[Any, int] = {}
        self.elements: list[Element] = []
        self.element_ids: dict[Any, int] = {}
        self.strings = bytearray()
        self.string_at: dict[bytes, int] = {}
        self.end = _State(CONTENT, ee=True)
        self.end.content = self.end
        self.states.append(self.end)

    # -- names

    def _uris(self) -> list[str]:
        initial = ["", XML, XSI, XSD]
        rest = {uri for uri, _ in self.schema.names} | self.schema.namespaces
        return initial + sorted(rest - set(initial))

    def _names(self) -> list[Name]:
        found: list[Name] = []
        for uri in self.uris:
            initial = sorted([*BUILT_IN, "anyType"]) if uri == XSD else _INITIAL_NAMES.get(uri, [])
            declared = {local for namespace, local in self.schema.names if namespace == uri}
            found += [(uri, local) for local in [*initial, *sorted(declared - set(initial))]]
        return found

    # -- grammars

    def compile(self) -> None:
        schema = self.schema
        by_name = sorted(schema.elements.values(), key=lambda e: (e.name[1], e.name[0]))
        for element in by_name:
            self._element(element)
        for name in sorted(schema.types, key=lambda name: self.name_ids[name]):
            self._type(schema.types[name])
        for attribute in sorted(schema.attributes.values(), key=lambda a: a.name):
            self._datatype(attribute.type)
        for element in self.elements:  # grows meanwhile
            self._type(element.type)
        self._fragment()
        self._minimise()

    def _element(self, element: Element) -> int:
        key = element.name, element.type, element.nillable
        if key not in self.element_ids:
            self.element_ids[key] = len(self.elements)
            self.elements.append(element)
        return self.element_ids[key]

    def _datatype(self, made: SimpleType) -> int:
        if made not in self.datatype_ids:
            base = None if made.base is None else self._datatype(made.base)
            item = None if made.item is None else self._datatype(made.item)
            # Types without a name that say the same are one.
            same = made.name, base, made.primitive, item, made.bounds, _patterns(made), made.enumeration, made.collapse
            if same not in self.same_datatypes:
                self.same_datatypes[same] = len(self.datatypes)
                self.datatypes.append(made)
            self.datatype_ids[made] = self.same_datatypes[same]
        return self.datatype_ids[made]

    def _type(self, made: SimpleType | ComplexType) -> None:
        if made in self.starts:
            return
        self.types.append(made)
        if isinstance(made, SimpleType):
            content = self._text(made)
            empty = self._start(FIRST, self.end)
            start = self._start(FIRST, content)
        else:
            if isinstance(made.content, SimpleType):
                content = self._text(made.content)
            else:
                content = self._content(made.content, made.mixed)
            start = self._tag(made, content)
            empty = self._tag(made, self.end)
        self.starts[made] = start, empty

    def _new(self, kind: int) -> _State:
        if len(self.states) >= self.schema.limits.states:
            raise SchemaError(f"more than {self.schema.limits.states} states")
        self.schema.check_time()
        state = _State(kind)
        self.states.append(state)
        return state

    def _start(self, kind: int, content: _State) -> _State:
        """The state in a start tag after which only content comes: what `content` accepts, and attributes that are not declared."""
        state = self._new(kind)
        state.ee = content.ee
        state.productions = list(content.productions)
        state.content = content
        return state

    def _tag(self, made: ComplexType, content: _State) -> _State:
        """One state for each attribute that may come next, the last first."""
        uses = sorted(made.attributes.values(), key=lambda use: (use[0].name[1], use[0].name[0]))
        after = self._start(FIRST if not uses else START, content)
        self._wildcard(made, after)
        for index in range(len(uses) - 1, -1, -1):
            attribute, required = uses[index]
            state = self._new(FIRST if index == 0 else START)
            state.content = content
            state.productions.append((AT, attribute.name, self._datatype(attribute.type), after))
            if not required:
                state.productions += [p for p in after.productions if p[0] not in (AT_NS, AT_ANY)]
                state.ee = after.ee
            self._wildcard(made, state)
            after = state
        return after

    @staticmethod
    def _wildcard(made: ComplexType, state: _State) -> None:
        if made.wildcard is not None:
            if made.wildcard.uris is None:
                state.productions.append((AT_ANY, None, None, state))
            else:
                state.productions += [(AT_NS, uri, None, state) for uri in made.wildcard.uris]

    def _text(self, made: SimpleType) -> _State:
        number = self._datatype(made)
        key = "text", number
        if key not in self.contents:
            state = self.contents[key] = self._new(CONTENT)
            state.content = state
            state.productions = [(CH, None, number, self.end)]
        return self.contents[key]

    def _content(self, particle: Particle | None, mixed: bool) -> _State:
        model = _Model(self.schema)
        first, last, empty = (set[int](), set[int](), True) if particle is None else model.add(particle)
        made: dict[frozenset[int] | None, _State] = {}
        waiting: list[tuple[_State, Iterable[int]]] = []

        def state_of(key: frozenset[int] | None, ee: bool, follow: Iterable[int]) -> _State:
            if key not in made:
                made[key] = self._new(CONTENT)
                made[key].ee = ee
                made[key].content = made[key]
                waiting.append((made[key], follow))
            return made[key]

        start = state_of(None, empty, first)
        while waiting:
            state, follow = waiting.pop()
            targets: dict[tuple[int, Any], tuple[tuple[int, int], Any, set[int]]] = {}
            for position in sorted(follow):
                order, term = model.leaves[position]
                for rank, (kind, name, argument) in enumerate(self._terminals(term)):
                    entry = targets.setdefault((kind, name), ((order, rank), argument, set()))
                    entry[2].add(position)
                    if (order, rank) < entry[0]:
                        targets[kind, name] = ((order, rank), argument, entry[2])
            for (kind, name), (_, argument, positions) in sorted(
                targets.items(), key=lambda item: (item[0][0], item[1][0])
            ):
                reached = set().union(*(model.follow[position] for position in positions))
                after = state_of(frozenset(positions), bool(positions & last), reached)
                state.productions.append((kind, name, argument, after))
            if mixed:
                state.productions.append((CH, None, NONE, state))
        return start

    def _terminals(self, term: Element | Wildcard | Group) -> Iterator[tuple[int, Any, Any]]:
        if isinstance(term, Element):
            for element in self.schema.substitutable(term):
                yield SE, element.name, self._element(element)
        elif isinstance(term, Wildcard):
            if term.uris is None:
                yield SE_ANY, None, None
            else:
                for uri in term.uris:
                    yield SE_NS, uri, None

    def _fragment(self) -> None:
        """Elements and attributes by name, and the grammar of elements that are declared differently (EXI sections 8.5.2, 8.5.3)."""
        self.fragment_elements: list[tuple[Name, int]] = []
        self.relaxed: tuple[_State, _State] | None = None
        if not self.fragments:
            return
        by_name: dict[Name, list[int]] = {}
        for number, element in enumerate(self.elements):
            by_name.setdefault(element.name, []).append(number)
        for name in sorted(by_name, key=lambda name: (name[1], name[0])):
            numbers = by_name[name]
            self.fragment_elements.append((name, numbers[0] if len(numbers) == 1 else NONE))
        attributes: dict[Name, set[int]] = {}
        used = [*self.schema.attributes.values(), *self.schema.local_attributes]
        for attribute in used:
            attributes.setdefault(attribute.name, set()).add(self._datatype(attribute.type))
        string = self._datatype(self.schema.types[XSD, "string"])  # type: ignore[arg-type]
        content = self._new(CONTENT)
        content.ee, content.content = True, content
        content.productions = [
            *((SE, name, number, content) for name, number in self.fragment_elements),
            (SE_ANY, None, None, content),
            (CH, None, NONE, content),
        ]
        self.relaxed = self._new(FIRST), self._new(FIRST)
        for state, body in zip(self.relaxed, (content, self.end), strict=True):
            state.content, state.ee = body, True
            for name in sorted(attributes, key=lambda name: (name[1], name[0])):
                kinds = attributes[name]
                state.productions.append((AT, name, next(iter(kinds)) if len(kinds) == 1 else string, state))
            state.productions += [(AT_ANY, None, None, state), *body.productions]

    def _minimise(self) -> None:
        """Make states, types and elements that nothing tells apart one; order productions by their event codes (EXI section 8.5.4.3)."""
        castable = self._castable()

        def grammar(made: SimpleType | ComplexType) -> Any:
            start, empty = self.starts[made]
            return start.cls, empty.cls, made in castable

        def below(production: tuple[int, Any, Any, Any]) -> Any:
            kind, _, argument, after = production
            element = self.elements[argument] if kind == SE and argument != NONE else None
            return -1 if after is None else after.cls, element and (element.nillable, grammar(element.type))

        def order(production: tuple[int, Any, Any, Any]) -> Any:
            kind, name = production[:2]
            return (
                (kind, name[1], name[0]) if kind == AT else (kind, name or "", "") if kind == AT_NS else (kind, "", "")
            )

        for state in self.states:
            state.productions.sort(key=order)  # stable: elements stay in schema order
        keys: dict[Any, int] = {}
        for state in self.states:
            own = state.kind, state.ee, tuple((*p[:2], p[2] == NONE if p[0] == SE else p[2]) for p in state.productions)
            state.cls = keys.setdefault(own, len(keys))
        count = 0
        while count != len(keys):
            self.schema.check_time()
            count, keys = len(keys), {}
            after = []
            for state in self.states:
                assert state.content is not None
                reached = tuple(below(p) for p in state.productions)
                after.append(keys.setdefault((state.cls, state.content.cls, reached), len(keys)))
            for state, cls in zip(self.states, after, strict=True):
                state.cls = cls
        self.kept: list[_State] = []
        chosen: dict[int, _State] = {}
        for state in self.states:
            if state.cls not in chosen:
                chosen[state.cls] = state
        waiting = [self.end, *(s for made in self.types for s in self.starts[made]), *(self.relaxed or ())]
        numbers: dict[int, int] = {}
        for state in waiting:  # grows meanwhile
            if state.cls in numbers:
                continue
            numbers[state.cls] = len(self.kept)
            self.kept.append(chosen[state.cls])
            assert state.content is not None
            waiting.append(state.content)
            waiting += [p[3] for p in state.productions if p[3] is not None]
        for state in self.states:
            state.number = numbers.get(state.cls, -1)
        rows: dict[Any, int] = {}
        self.type_numbers = {made: rows.setdefault(grammar(made), len(rows)) for made in self.types}
        self.type_rows = [(chosen[start].number, chosen[empty].number, may) for start, empty, may in rows]
        rows = {}
        self.element_numbers = [
            rows.setdefault((e.name, e.nillable, self.type_numbers[e.type]), len(rows)) for e in self.elements
        ]
        self.element_rows = list(rows)

    # -- bytes

    def _string(self, text: str) -> tuple[int, int]:
        data = text.encode()
        if data not in self.string_at:
            at = self.strings.find(data)
            if at < 0:
                at = len(self.strings)
                self.strings += data
            self.string_at[data] = at
        return self.string_at[data], len(data)

    def emit(self) -> bytes:
        """The tables, as bytes."""
        values = [value for made in self.datatypes for value in made.enumeration or ()]
        for text in sorted(
            {*self.uris, *(local for _, local in self.names), *values}, key=lambda text: (-len(text), text)
        ):
            self._string(text)  # the longest first: many others are parts of them
        sections: list[tuple[int, bytes]] = []
        uris = bytearray()
        at = 0
        for uri in self.uris:
            count = sum(1 for name in self.names if name[0] == uri)
            uris += struct.pack("<IHHHH", *self._string(uri), at, count, 0)
            at += count
        sections.append((len(self.uris), bytes(uris)))
        sections.append(self._names_section())
        sections.append((len(self.element_rows), b"".join(
            struct.pack("<HH", self.name_ids[name], number | nillable << 15) for name, nillable, number in self.element_rows
        )))  # fmt: skip
        types = bytearray(b"".join(struct.pack("<HHH", *row) for row in self.type_rows))
        if self.relaxed is not None:
            types += struct.pack("<HHH", self.relaxed[0].number, self.relaxed[1].number, True)
        if len(types) // 6 > 0x7FFF:
            raise SchemaError("too many types for the tables")
        sections.append((len(types) // 6, bytes(types)))
        sections += self._states_sections()
        sections += self._datatype_sections()
        sections.append((len(self.fragment_elements), b"".join(
            struct.pack("<HH", self.name_ids[name], NONE if number == NONE else self.element_numbers[number])
            for name, number in self.fragment_elements
        )))  # fmt: skip
        sections.append(_slots([(_hash(NONE, uri), number) for number, uri in enumerate(self.uris)]))
        sections.append(
            _slots([(_hash(self.uri_ids[uri], local), number) for number, (uri, local) in enumerate(self.names)])
        )
        sections.append((len(self.strings), bytes(self.strings)))
        header = 32 + 8 * len(sections)
        offsets, body = [], bytearray()
        for count, data in sections:
            body += bytes(-len(body) % 8)
            offsets.append((count, header + len(body)))
            body += data
        body += bytes(-len(body) % 8)
        globals_ = len(self.schema.elements)
        relaxed = len(self.type_rows) if self.relaxed is not None else NONE
        head = struct.pack("<4sIIHH16x", b"XEG1", header + len(body), len(sections), globals_, relaxed)
        return head + b"".join(struct.pack("<II", *pair) for pair in offsets) + bytes(body)

    def _names_section(self) -> tuple[int, bytes]:
        out = bytearray()
        for name in self.names:
            at, length = self._string(name[1])
            if length > 255 or at >= 1 << 24:
                raise SchemaError(f"a name of more than 255 bytes: {name[1][:40]}...")
            element = self.schema.elements.get(name)
            attribute = self.schema.attributes.get(name)
            made = self.schema.types.get(name)
            out += struct.pack(
                "<IHHHH",
                at << 8 | length,
                self.uri_ids[name[0]],
                NONE if element is None else self.element_numbers[self._element(element)],
                NONE if attribute is None else self._datatype(attribute.type),
                NONE if made is None else self.type_numbers[made],
            )
        return len(self.names), bytes(out)

    def _states_sections(self) -> list[tuple[int, bytes]]:
        lists: list[tuple[int, bytes]] = []
        for state in self.kept:
            rows = bytearray()
            attributes = 0
            end = [(EE, None, None, None)] if state.ee else []
            for kind, name, argument, after in sorted([*state.productions, *end], key=lambda p: p[0]):
                attributes += kind == AT
                label = _LABELS[kind]
                if kind == SE and argument != NONE:
                    argument = self.element_numbers[argument]
                if kind in (AT, SE):
                    label = self.name_ids[name]
                elif kind in (AT_NS, SE_NS):
                    label += self.uri_ids[name]
                rows += struct.pack(
                    "<HHH", label, NONE if argument is None else argument, NONE if after is None else after.number
                )
            lists.append((attributes, bytes(rows)))
        productions = bytearray()
        shared: dict[bytes, int] = {
            b"": 0
        }  # a state whose attribute is optional has the list of the next one in its own
        for _, rows_ in sorted(lists, key=lambda entry: (-len(entry[1]), entry[1])):
            if rows_ not in shared:
                at = productions.find(rows_)
                while at % _ROW and at >= 0:
                    at = productions.find(rows_, at + 1)
                if at < 0:
                    at = len(productions)
                    productions += rows_
                shared[rows_] = at // _ROW
        states = bytearray()
        for state, (attributes, rows_) in zip(self.kept, lists, strict=True):
            assert state.content is not None
            flags = attributes << 4 | state.ee << 3 | state.kind
            if attributes > 0xFFF or len(rows_) // _ROW > NONE:
                raise SchemaError("a type has too many attributes or elements")
            states += struct.pack("<HHHH", shared[rows_], len(rows_) // _ROW, state.content.number, flags)
        if len(self.kept) > 0xFFF0 or len(productions) // _ROW > 0xFFF0:
            raise SchemaError("too many states for the tables")
        return [(len(self.kept), bytes(states)), (len(productions) // _ROW, bytes(productions))]

    def _datatype_sections(self) -> list[tuple[int, bytes]]:
        datatypes, enums, sets, points = bytearray(), bytearray(), bytearray(), bytearray()
        set_ids: dict[tuple[int, ...], int] = {}

        def set_id(characters: tuple[int, ...] | None) -> int:
            if characters is None:
                return NONE
            if characters not in set_ids:
                set_ids[characters] = len(set_ids)
                sets.extend(struct.pack("<HH", len(points) // 2, len(characters)))
                points.extend(struct.pack(f"<{len(characters)}H", *characters))
            return set_ids[characters]

        for made in self.datatypes:
            kind = _kind(made)
            base_kind, low, bits = kind, 0, 0
            if kind == NBIT:
                low = made.bounds[0] or 0
                bits = ((made.bounds[1] or 0) - low).bit_length()
            first, count = NONE, 0
            if made.enumeration is not None and made.primitive not in ("list", "union", "QName", "NOTATION"):
                first, count = len(enums) // 8, len(made.enumeration)
                kind, bits = ENUM, (count - 1).bit_length()
                for value in made.enumeration:
                    at, length = self._string(value)
                    enums += struct.pack("<IHH", at, length, 0)
            item = self.datatype_ids[made.item] if made.item is not None else NONE
            lexical = base_kind if made.item is None else _kind(made.item)
            restricted = charset(_patterns(made)) if made.primitive == "string" and _patterns(made) else None
            datatypes += struct.pack(
                "<BBBBHHHHHHq",
                kind,
                bits,
                base_kind,
                made.collapse,
                self.name_ids.get(made.name, NONE) if made.name is not None else NONE,
                NONE if made.base is None else self.datatype_ids[made.base],
                first if kind == ENUM else item,
                count,
                set_id(restricted),
                set_id(_lexical_set(lexical)),
                low,
            )
        return [
            (len(self.datatypes), bytes(datatypes)),
            (len(enums) // 8, bytes(enums)),
            (len(sets) // 4, bytes(sets)),
            (len(points) // 2, bytes(points)),
        ]

    def _castable(self) -> set[Any]:
        """Types that xsi:type may replace by another: those with named types derived from them, and unions."""
        found: set[Any] = {made for made in self.types if isinstance(made, SimpleType) and made.primitive == "union"}
        for made in self.schema.types.values():
            base: Any = made.base
            while base is not None and base not in found:
                found.add(base)
                base = base.base if base is not self.schema.any_type else None
        found.add(self.schema.any_type)
        return found


def _patterns(made: SimpleType) -> tuple[str, ...]:
    """The patterns of the most derived type that has some."""
    step: SimpleType | None = made
    while step is not None:
        if step.patterns:
            return step.patterns
        step = step.base
    return ()


def _kind(made: SimpleType) -> int:
    """How values are represented, enumerations apart (EXI table 7-1)."""
    if made.primitive == "integer":
        low, high = made.bounds
        if low is not None and high is not None and high - low < _RANGE:
            return NBIT
        return UNSIGNED if low is not None and low >= 0 else INTEGER
    if made.primitive == "boolean" and _patterns(made):
        return BOOLEAN_PATTERN
    return _KINDS.get(made.primitive, STRING)


def _lexical_set(kind: int) -> tuple[int, ...] | None:
    if kind in (NBIT, UNSIGNED):
        kind = INTEGER
    elif kind == BOOLEAN_PATTERN:
        kind = BOOLEAN
    elif DATETIME <= kind <= GDAY:
        kind = DATETIME
    text = _LEXICAL.get(kind)
    return None if text is None else tuple(sorted(ord(c) for c in text))


def _hash(seed: int, text: str) -> int:
    """As xe_fnv() of exi_grammar.h."""
    value = 2166136261 ^ (seed * 0x9E3779B1 & 0xFFFFFFFF)
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value ^ value >> 15


def _slots(entries: list[tuple[int, int]]) -> tuple[int, bytes]:
    """An index with open addressing, at most two thirds full."""
    size = 4
    while size * 2 < len(entries) * 3:
        size *= 2
    slots = [NONE] * size
    for key, number in entries:
        at = key & (size - 1)
        while slots[at] != NONE:
            at = (at + 1) & (size - 1)
        slots[at] = number
    return size, struct.pack(f"<{size}H", *slots)


def compile_schema(schema: Schema, *, fragments: bool = True) -> bytes:
    """The tables of declarations that were read."""
    if len(schema.names) > 0xF000:
        raise SchemaError("too many names for the tables")
    compiler = _Compiler(schema, fragments)
    compiler.compile()
    return compiler.emit()


def compile_files(
    files: Iterable[Path],
    *,
    fragments: bool = True,
    without: Container[str] = (),
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> bytes:
    """The tables of schema files and all that they import; without files those of the built-in types alone.

    `fragments`: also what fragments need (EXI sections 8.5.2 and 8.5.3); `without`: namespaces whose imports are not followed.
    Raises `SchemaError`.
    """
    return compile_schema(read(files, limits, without=without), fragments=fragments)


def compile_canonical(
    files: Iterable[Path],
    documents: Iterable[bytes],
    *,
    without: Container[str] = (),
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> bytes:
    """The tables of the canonical schema of XEP-0322: one that imports these files, with all that they import, and these documents.

    Raises `SchemaError`, also if a document needs what is not there.
    """
    schema = Schema(limits)
    for path in files:
        schema.load(path, without)
    for data in documents:
        schema.add(data)
    schema.namespaces.add(CANONICAL)
    schema.finish()
    return compile_schema(schema, fragments=False)
