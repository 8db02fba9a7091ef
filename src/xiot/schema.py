# SPDX-License-Identifier: Apache-2.0
"""Typed elements: one declaration from which an element is read, checked and written.

    class Item(Payload, tag=("jabber:iq:roster", "item")):
        jid: JID = attr()                                         # required: no default
        name: str | None = attr(default=None)                     # optional
        groups: tuple[str, ...] = children(name="group", default=())

Theory of operation. A `Payload` subclass is made a frozen, keyword-only dataclass; each field says by its specifier
where it stands in the XML and by its annotation what it is. Both are compiled into a `_Plan` when the class is created:
`from_element` and `to_element` only walk that plan. A field without a default is required, in the XML as in the
constructor. Attributes and children that no field claims are ignored when read: RFC 6120 section 8.4 lets any peer
extend any element.

Annotations: str, int, bool, float, Decimal, datetime (XEP-0082), bytes (base64), JID, an Enum, a Literal of strings;
for children also a Payload class or a union of them, and Element, which is kept as it is. ``| None`` marks what may be
absent. They are read at run time: a module of Payload classes does without ``from __future__ import annotations``.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import re
import types
import typing
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, cast, dataclass_transform

from _xmppcore import JID, Element
from xiot.errors import StanzaError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MISSING: Any = dataclasses.MISSING
_XML_SPACE = " \t\r\n"


class PayloadError(StanzaError, ValueError):
    """An element does not fit its declaration: ``bad-request``, with a text that says where and why.

    The text never holds the value: it may be secret.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__("bad-request", text=f"{path}: {problem}")
        self.path = path
        self.problem = problem


# ---- values as text ------------------------------------------------------------------------------------------


class _Text(NamedTuple):
    """How a value of one type is written in an attribute or as text, and read again."""

    what: str  # for "not ..." in error texts
    read: Callable[[str], Any]  # ValueError if the text does not fit
    write: Callable[[Any], str]


def _pattern(pattern: str, make: Callable[[str], T]) -> Callable[[str], T]:
    # Python's own readers take more than XML Schema does: underscores, digits of any script, "infinity".
    matches = re.compile(pattern, re.ASCII).fullmatch

    def read(text: str) -> T:
        text = text.strip(_XML_SPACE)
        if matches(text) is None:
            raise ValueError(text)
        return make(text)

    return read


def _choice(values: dict[str, Any], what: str, write: Callable[[Any], str]) -> _Text:
    def read(text: str) -> Any:
        try:
            return values[text.strip(_XML_SPACE)]
        except KeyError:
            raise ValueError(text) from None

    return _Text(what, read, write)


def _in_utc(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:  # year 1 or 9999, moved out of range by its offset
        raise ValueError(text) from None


def write_datetime(value: datetime) -> str:
    """Return `value` in the profile of XEP-0082 section 3.2, in UTC, with no more digits of a second than it has.

    Raises ValueError if `value` has no time zone.
    """
    if value.tzinfo is None:
        raise ValueError(f"a date and time without a time zone: {value}")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def write_float(value: float) -> str:
    """Return `value` as ``xs:double`` writes it: the shortest text that reads back equal."""
    text = repr(float(value))
    return {"inf": "INF", "-inf": "-INF", "nan": "NaN"}.get(text, text)


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"not a decimal number: {value}")
    return format(value, "f")


_DATETIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
_DOUBLE = r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|INF)|NaN"

read_datetime = _pattern(_DATETIME, _in_utc)
"""Reads the profile of XEP-0082 section 3.2, to the microsecond, as a datetime in UTC. Raises ValueError."""

_TEXT: dict[Any, _Text] = {
    str: _Text("text", str, str),
    int: _Text("an integer", _pattern(r"[+-]?[0-9]+", int), str),
    bool: _choice({"true": True, "1": True, "false": False, "0": False}, "a boolean", lambda v: str(v).lower()),
    float: _Text("a number", _pattern(_DOUBLE, float), write_float),
    Decimal: _Text("a decimal number", _pattern(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", Decimal), _write_decimal),
    datetime: _Text("a date and time with a time zone", read_datetime, write_datetime),
    bytes: _Text(
        "base64",
        lambda text: base64.b64decode("".join(text.split()), validate=True),
        lambda value: base64.b64encode(value).decode("ascii"),
    ),
    JID: _Text("a JID", JID, str),
}


def _text_form(kinds: list[Any]) -> _Text:
    """Return how values of the one type in `kinds` are written as text; TypeError if they are not."""
    hint = kinds[0] if len(kinds) == 1 else kinds
    if typing.get_origin(hint) is Literal:
        values = {value: value for value in typing.get_args(hint)}
        return _choice(values, "one of " + ", ".join(values), str)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = {member.value: member for member in hint}
        return _choice(values, "one of " + ", ".join(values), lambda member: str(member.value))
    form = _TEXT.get(hint) if isinstance(hint, type) else None
    if form is None:
        raise TypeError(f"{hint} is neither a type that has a text form nor, for a child, a Payload with a tag")
    return form


# ---- field specifiers ----------------------------------------------------------------------------------------


class _Spec(NamedTuple):
    place: Literal["attr", "text", "child", "flag", "any"]
    name: str | None = None  # as in the XML; None: the name of the field
    ns: str | None = None  # of a child; None: that of the parent


def _field(spec: _Spec, default: T, secret: bool = False) -> T:
    return dataclasses.field(default=default, repr=not secret, metadata={"xml": spec})


def attr(*, name: str | None = None, default: T = _MISSING, secret: bool = False) -> T:
    """Declare an attribute; one equal to its default is not written.

    `name` is the attribute's, if it is not the field's (less a ``_`` at the end); `secret` keeps the value out of repr.
    """
    return _field(_Spec("attr", name), default, secret)


def text(*, default: T = _MISSING, secret: bool = False) -> T:
    """Declare the text of the element itself; empty text is the default if there is one."""
    return _field(_Spec("text"), default, secret)


def child(*, name: str | None = None, ns: str | None = None, default: T = _MISSING, secret: bool = False) -> T:
    """Declare a child that stands at most once: a Payload, a choice of Payloads, or a value that is the child's text.

    `name` and `ns` are those of the child element, where its class does not say them. More than one is a bad request.
    """
    return _field(_Spec("child", name, ns), default, secret)


def children(*, name: str | None = None, ns: str | None = None, default: tuple[T, ...] = _MISSING) -> tuple[T, ...]:
    """Declare children of one kind, or of several in the order of the document; at least one unless ``default=()``."""
    return _field(_Spec("child", name, ns), default)


def any_child(*, default: T = _MISSING) -> T:
    """Declare the first child that no other field claims, as an Element."""
    return _field(_Spec("any"), default)


def any_children(*, default: tuple[Element, ...] = _MISSING) -> tuple[Element, ...]:
    """Declare all the children that no other field claims, as Elements."""
    return _field(_Spec("any"), default)


def flag(*, default: Literal[False], name: str | None = None, ns: str | None = None) -> bool:
    """Declare an empty child element that says yes by being there. (Type checkers want to see `default`.)"""
    return _field(_Spec("flag", name, ns), bool(default))


# ---- the plan ------------------------------------------------------------------------------------------------


class _Value(NamedTuple):
    """A field that is an attribute, or the text of the element."""

    key: str
    name: str  # of the attribute
    path: str
    default: Any
    form: _Text

    def read(self, raw: str) -> Any:
        try:
            return self.form.read(raw)
        except ValueError:
            raise PayloadError(self.path, f"not {self.form.what}") from None


class _Child(NamedTuple):
    """A field that is one child, or several."""

    key: str
    many: bool
    write: Callable[[Any], Element]
    omitted: Any  # the value that is not written


class _Plan:
    """What a Payload class declares, ready to be walked."""

    def __init__(self, cls: type[Payload], ns: str, name: str) -> None:
        self.ns, self.name = ns, name
        self.tag = f"{{{ns}}}{name}"
        self.attrs: list[_Value] = []
        self.text: _Value | None = None
        self.children: list[_Child] = []  # in the order they are written
        self.by_tag: dict[str, tuple[_Child, Callable[[Element], Any]]] = {}
        self.rest: _Child | None = None
        self.defaults: dict[str, Any] = {}
        self.required: dict[str, str] = {}  # key -> where it is missing
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cast("Any", cls)):
            spec = field.metadata.get("xml")
            try:
                if spec is None:
                    raise TypeError("declare it by attr(), text(), child() or the like")
                self._add(field.name, spec, hints[field.name], field.default)
            except TypeError as err:
                raise TypeError(f"{cls.__qualname__}.{field.name}: {err}") from None

    def _add(self, key: str, spec: _Spec, hint: Any, default: Any) -> None:
        xml_name = spec.name or key.rstrip("_")
        kinds, many = _kinds(hint)
        path = self.name + {"attr": f"@{xml_name}", "child": f"/{xml_name}"}.get(spec.place, "")
        if default is _MISSING:
            self.required[key] = path
        else:
            self.defaults[key] = default
        if spec.place == "any":
            self.rest = _Child(key, many, _itself, None)
            self.children.append(self.rest)
        elif spec.place == "flag":
            tag = self._tag(spec, xml_name)
            self._claim(tag, _Child(key, False, lambda _: Element(tag), False), lambda _: True)
        elif spec.place == "child":
            self._add_child(key, many, kinds, self._tag(spec, xml_name), path)
        else:
            value = _Value(key, xml_name, path, default, _text_form(kinds))
            if spec.place == "text":
                self.text = value
            else:
                self.attrs.append(value)

    def _tag(self, spec: _Spec, xml_name: str) -> str:
        return f"{{{self.ns if spec.ns is None else spec.ns}}}{xml_name}"

    def _add_child(self, key: str, many: bool, kinds: list[Any], tag: str, path: str) -> None:
        if kinds == [Element]:
            self._claim(tag, _Child(key, many, _itself, None), _itself)
        elif all(isinstance(kind, type) and issubclass(kind, Payload) and kind.TAG for kind in kinds):
            slot = _Child(key, many, lambda payload: cast("Payload", payload).to_element(), None)
            for kind in kinds:
                self._claim(kind.TAG, slot, _inside(self.name, kind.from_element))
        else:
            value = _Value(key, "", path, None, _text_form(kinds))
            write = value.form.write
            slot = _Child(key, many, lambda v: Element(tag, None, write(v)), None)
            self._claim(tag, slot, lambda el: value.read(el.text or ""))

    def _claim(self, tag: str, slot: _Child, read: Callable[[Element], Any]) -> None:
        if tag in self.by_tag:
            raise TypeError(f"another field claims {tag}")
        self.by_tag[tag] = slot, read
        if slot not in self.children:
            self.children.append(slot)

    def read(self, el: Element) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for slot in self.attrs:
            raw = el.get(slot.name)
            if raw is not None:
                values[slot.key] = slot.read(raw)
        if self.text is not None and (el.text or self.text.default is _MISSING):
            values[self.text.key] = self.text.read(el.text or "")
        if self.children:
            self._read_children(el, values)
        for key, path in self.required.items():
            if key not in values:
                raise PayloadError(path, "missing")
        return self.defaults | values

    def _read_children(self, el: Element, values: dict[str, Any]) -> None:
        rest = None if self.rest is None else (self.rest, _itself)
        for node in el:
            claim = self.by_tag.get(node.tag, rest)
            if claim is None:
                continue
            slot, read = claim
            if slot.many:
                values.setdefault(slot.key, []).append(read(node))
            elif slot.key not in values:
                values[slot.key] = read(node)
            elif slot is not self.rest:
                raise PayloadError(f"{self.name}/{node.name}", "more than one")
        for slot in self.children:
            if slot.many and slot.key in values:
                values[slot.key] = tuple(values[slot.key])

    def write(self, payload: Payload) -> Element:
        el = Element(self.tag)
        for value_slot in self.attrs:
            value = getattr(payload, value_slot.key)
            if value is not None and value != value_slot.default:
                el.set(value_slot.name, value_slot.form.write(value))
        if self.text is not None:
            value = getattr(payload, self.text.key)
            if value is not None:
                el.text = self.text.form.write(value)
        for slot in self.children:
            value = getattr(payload, slot.key)
            if slot.many:
                el.extend(map(slot.write, value))
            elif value is not None and value is not slot.omitted:
                el.append(slot.write(value))
        return el


def _itself(el: Element) -> Element:
    return el


def _inside(parent: str, read: Callable[[Element], Any]) -> Callable[[Element], Any]:
    """Return `read` with the name of the parent before the path of its errors."""

    def read_inside(el: Element) -> Any:
        try:
            return read(el)
        except PayloadError as err:
            raise PayloadError(f"{parent}/{err.path}", err.problem) from None

    return read_inside


def _kinds(hint: Any) -> tuple[list[Any], bool]:
    """Return what the annotation `hint` allows, without None, and whether it is a ``tuple[..., ...]`` of that."""
    many = typing.get_origin(hint) is tuple
    if many:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return [hint], many
    return [kind for kind in typing.get_args(hint) if kind is not types.NoneType], many


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(attr, text, child, children, any_child, any_children, flag),
)
class Payload:
    """Base of typed elements: ``class Ping(Payload, tag=(NS, "ping"))``.

    Without a tag, a class only lends its fields to subclasses.
    """

    TAG: ClassVar[str] = ""
    """``{ns}name``, as `Element.tag`."""
    QNAME: ClassVar[tuple[str, str]] = ("", "")
    """(ns, name), as `Stanza.payload`."""
    _plan: ClassVar[_Plan]

    def __init_subclass__(cls, *, tag: tuple[str, str] | None = None) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        if tag is not None:
            cls._plan = _Plan(cls, *tag)
            cls.TAG, cls.QNAME = cls._plan.tag, tag

    @classmethod
    def from_element(cls, el: Element | None) -> Self:
        """Read `el`; what the declaration does not know is ignored.

        Raises PayloadError (``bad-request``) if `el` is None or another element, if something required is missing, or
        if a value does not fit its type.
        """
        if el is None or el.tag != cls.TAG:
            raise PayloadError(cls._plan.name, f"missing; there is {'nothing' if el is None else el.name}")
        payload = object.__new__(cls)
        # Past the frozen constructor, which makes a call for each field: the plan has checked them all.
        payload.__dict__.update(cls._plan.read(el))
        return payload

    def to_element(self) -> Element:
        """Write this payload as a new Element.

        Raises ValueError if a value has no text form, such as a datetime without a time zone.
        """
        return self._plan.write(self)
