# SPDX-License-Identifier: Apache-2.0
"""Reading XML Schema files: what EXI grammars are made of, and nothing else (XML Schema 1.0 parts 1 and 2; 1.1's weak wildcards).

`read` takes files, follows their imports and includes inside the same folder only, and returns a `Schema`: global and local
declarations with their types resolved. It checks what it needs, not validity: a schema that is not valid gives some grammar or
a `SchemaError`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from lxml import etree

XSD = "http://www.w3.org/2001/XMLSchema"
XML = "http://www.w3.org/XML/1998/namespace"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

Name = tuple[str, str]  # namespace, local part
Node = Any  # an lxml element

# Built-in types and their bases (XML Schema part 2, section 3).
BUILT_IN = {
    "anySimpleType": "anyType",
    **dict.fromkeys(
        [
            "string",
            "boolean",
            "base64Binary",
            "hexBinary",
            "float",
            "decimal",
            "double",
            "anyURI",
            "QName",
            "NOTATION",
            "duration",
            "dateTime",
            "time",
            "date",
            "gYearMonth",
            "gYear",
            "gMonthDay",
            "gDay",
            "gMonth",
            "IDREFS",
            "ENTITIES",
            "NMTOKENS",
        ],
        "anySimpleType",
    ),
    "normalizedString": "string",
    "token": "normalizedString",
    "language": "token",
    "NMTOKEN": "token",
    "Name": "token",
    "NCName": "Name",
    "ID": "NCName",
    "IDREF": "NCName",
    "ENTITY": "NCName",
    "integer": "decimal",
    "nonPositiveInteger": "integer",
    "negativeInteger": "nonPositiveInteger",
    "long": "integer",
    "int": "long",
    "short": "int",
    "byte": "short",
    "nonNegativeInteger": "integer",
    "unsignedLong": "nonNegativeInteger",
    "unsignedInt": "unsignedLong",
    "unsignedShort": "unsignedInt",
    "unsignedByte": "unsignedShort",
    "positiveInteger": "nonNegativeInteger",
}
_BOUNDS = {
    "nonPositiveInteger": (None, 0),
    "negativeInteger": (None, -1),
    "long": (-(2**63), 2**63 - 1),
    "int": (-(2**31), 2**31 - 1),
    "short": (-(2**15), 2**15 - 1),
    "byte": (-128, 127),
    "nonNegativeInteger": (0, None),
    "unsignedLong": (0, 2**64 - 1),
    "unsignedInt": (0, 2**32 - 1),
    "unsignedShort": (0, 65535),
    "unsignedByte": (0, 255),
    "positiveInteger": (1, None),
}
_ITEMS = {"IDREFS": "IDREF", "ENTITIES": "ENTITY", "NMTOKENS": "NMTOKEN"}


class SchemaError(ValueError):
    """A schema cannot be read, or is over a limit."""


@dataclass(frozen=True)
class Limits:
    """What one set of schemas may cost; for schemas that strangers send."""

    files: int = 512
    file_bytes: int = 1 << 20
    depth: int = 64  # of groups in groups, types from types
    particles: int = 20_000  # leaves of one content model, its repetitions written out
    states: int = 60_000
    pairs: int = 5_000_000  # of leaves that may follow one another: optional repetitions square them
    seconds: float = 60.0  # from the first file on


@dataclass(eq=False)
class SimpleType:
    """A simple type: `bounds` are of integers only, `patterns` those of its own step of derivation."""

    name: Name | None
    base: SimpleType | None
    primitive: str  # the built-in type that decides the representation; for lists and unions "list", "union"
    item: SimpleType | None = None
    bounds: tuple[int | None, int | None] = (None, None)
    patterns: tuple[str, ...] = ()
    enumeration: tuple[str, ...] | None = None
    collapse: bool = True


@dataclass(frozen=True)
class Wildcard:
    """Names that are not declared: `uris` is None for any and for other than some namespace."""

    uris: tuple[str, ...] | None


@dataclass
class Group:
    """A model group: `kind` is sequence, choice or all."""

    kind: str
    particles: list[Particle]


@dataclass
class Particle:
    """A term and how often it may occur; `most` is None if that is without bound."""

    least: int
    most: int | None
    term: Element | Wildcard | Group


@dataclass(eq=False)
class Attribute:
    """An attribute declaration."""

    name: Name
    type: SimpleType


@dataclass(eq=False)
class ComplexType:
    """A complex type; `content` is None (empty), a simple type or a particle."""

    name: Name | None
    base: ComplexType | SimpleType | None = None
    attributes: dict[Name, tuple[Attribute, bool]] = field(default_factory=dict)  # the bool: required
    wildcard: Wildcard | None = None
    content: SimpleType | Particle | None = None
    mixed: bool = False


@dataclass(eq=False)
class Element:
    """An element declaration; its type is resolved when asked for, since types may contain themselves."""

    name: Name
    nillable: bool
    resolve: Callable[[], SimpleType | ComplexType]
    substitutes: Name | None = None
    _type: SimpleType | ComplexType | None = None

    @property
    def type(self) -> SimpleType | ComplexType:
        """The type definition."""
        if self._type is None:
            self._type = self.resolve()
        return self._type


@dataclass
class _Document:
    namespace: str
    qualified_elements: bool
    qualified_attributes: bool


class Schema:
    """All declarations of a set of schema files."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._ends_at = monotonic() + limits.seconds
        self.namespaces: set[str] = set()  # target namespaces and those that wildcards name
        self.names: set[Name] = set()  # of all elements, attributes and types
        self.elements: dict[Name, Element] = {}
        self.local_elements: list[Element] = []
        self.attributes: dict[Name, Attribute] = {}
        self.local_attributes: list[Attribute] = []
        self.types: dict[Name, SimpleType | ComplexType] = {}
        self._nodes: dict[tuple[str, Name], tuple[Node, _Document]] = {}
        self._made: dict[
            int, Any
        ] = {}  # of nodes that may be asked for more than once; the node is kept alive by _roots
        self._roots: list[Node] = []
        self._depth = 0
        self._redefines = False  # the file that redefines comes first, and its declarations win
        self.any_type = ComplexType((XSD, "anyType"), mixed=True, wildcard=Wildcard(None))
        self.any_type.content = Particle(0, None, Wildcard(None))
        for local in BUILT_IN:
            self._built_in(local)
        self.types[XSD, "anyType"] = self.any_type

    def check_time(self) -> None:
        """Raises `SchemaError` if it has taken too long."""
        if monotonic() > self._ends_at:
            raise SchemaError(f"schemas that take longer than {self.limits.seconds:g} s")

    def _built_in(self, local: str) -> SimpleType:
        if (XSD, local) in self.types:
            return self.types[XSD, local]  # type: ignore[return-value]  # anyType is no simple type's base here
        base = None if local == "anySimpleType" else self._built_in(BUILT_IN[local])
        made = SimpleType((XSD, local), base, local if base is None else base.primitive)
        if base is not None and base.name == (XSD, "anySimpleType"):
            made.primitive = local
        made.collapse = local not in ("string", "anySimpleType", "normalizedString")
        made.bounds = _BOUNDS.get(local, (None, None))
        if local == "integer" or (base is not None and base.primitive == "integer"):
            made.primitive = "integer"
        if local in _ITEMS:
            made.primitive, made.item = "list", self._built_in(_ITEMS[local])
        self.types[XSD, local] = made
        return made

    # -- files

    def load(self, root: Path, without: Container[str] = ()) -> None:
        """Read `root` and all that it imports and includes; names without a file are looked for by namespace in its folder.

        Imports of the namespaces `without` are not followed.
        """
        seen: set[tuple[Path, str]] = set()
        wanted: list[tuple[Path, str | None]] = [(root, None)]
        by_namespace: dict[str, Path] | None = None
        while wanted:
            path, chameleon = wanted.pop()
            tree = self._parse(path)
            namespace = tree.get("targetNamespace") or chameleon or ""
            if (path, namespace) in seen:
                continue
            seen.add((path, namespace))
            if len(seen) > self.limits.files:
                raise SchemaError(f"more than {self.limits.files} schema files")
            self._take(tree, namespace)
            for node in tree:
                if node.tag in (f"{{{XSD}}}include", f"{{{XSD}}}redefine"):
                    wanted.append((self._sibling(root, node.get("schemaLocation")) or self._missing(node), namespace))
                elif node.tag == f"{{{XSD}}}import" and node.get("namespace") not in without:
                    target = self._sibling(root, node.get("schemaLocation"))
                    if target is None:
                        if by_namespace is None:
                            by_namespace = _index(root.parent)
                        target = by_namespace.get(node.get("namespace") or "")
                    if target is not None:
                        wanted.append((target, None))

    def add(self, data: bytes) -> None:
        """Take one schema document; what it imports is to be there otherwise, what it includes is refused."""
        tree = self.parse(data, "document")
        if any(node.tag in (f"{{{XSD}}}include", f"{{{XSD}}}redefine") for node in tree):
            raise SchemaError("a document that includes others")
        self._take(tree, tree.get("targetNamespace") or "")

    @staticmethod
    def _sibling(root: Path, location: str | None) -> Path | None:
        if not location:
            return None
        path = root.parent / location.rpartition("/")[2]  # never outside of the folder, never from a network
        return path if path.is_file() else None

    @staticmethod
    def _missing(node: Node) -> Path:
        raise SchemaError(f"no file {node.get('schemaLocation')!r}")

    def _parse(self, path: Path) -> Node:
        data = path.read_bytes()
        return self.parse(data, path.name)

    def parse(self, data: bytes, what: str) -> Node:
        """The root element of a schema document."""
        if len(data) > self.limits.file_bytes:
            raise SchemaError(f"{what}: larger than {self.limits.file_bytes} bytes")
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
        )
        try:
            tree = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            raise SchemaError(f"{what}: {error}") from None
        if tree.tag != f"{{{XSD}}}schema":
            raise SchemaError(f"{what}: no schema, but {tree.tag}")
        if any(not isinstance(node.tag, str) for node in tree.iter()):
            raise SchemaError(f"{what}: entity references")
        self._roots.append(tree)
        return tree

    def _take(self, tree: Node, namespace: str) -> None:
        document = _Document(
            namespace, tree.get("elementFormDefault") == "qualified", tree.get("attributeFormDefault") == "qualified"
        )
        self.namespaces.add(namespace)
        top: list[Node] = []
        self._redefines |= any(node.tag == f"{{{XSD}}}redefine" for node in tree)
        for node in tree:
            top += list(node) if node.tag == f"{{{XSD}}}redefine" else [node]
        for node in top:
            kind = etree.QName(node).localname
            if kind in ("simpleType", "complexType"):
                kind = "type"
            if node.get("name") is not None:
                have, _ = self._nodes.setdefault((kind, (namespace, node.get("name"))), (node, document))
                if have is not node and not self._redefines and etree.tostring(have) != etree.tostring(node):
                    raise SchemaError(f"two declarations of {kind} {{{namespace}}}{node.get('name')}")

    def finish(self) -> None:
        """Make all declarations, once all files are loaded."""
        for kind, name in list(self._nodes):
            if kind == "type":
                self.type_named(name)
            elif kind == "element":
                self.element_named(name)
            elif kind == "attribute":
                self.attribute_named(name)
        for attribute in self.attributes.values():
            self._note(attribute)
        done: set[int] = set()
        waiting: list[Any] = [*self.elements.values(), *self.types.values()]
        while waiting:  # local declarations come up as types are made
            made = waiting.pop()
            if id(made) in done:
                continue
            done.add(id(made))
            self._note(made)
            if isinstance(made, Element):
                waiting.append(made.type)
            elif isinstance(made, ComplexType):
                for used, _ in made.attributes.values():
                    self._note(used)
                waiting += [leaf for leaf in _leaves(made.content) if isinstance(leaf, Element)]

    def _note(self, made: Any) -> None:
        if isinstance(made, (Element, Attribute)):
            self.names.add(made.name)
            if isinstance(made, Element) and self.elements.get(made.name) is not made:
                self.local_elements.append(made)
            if (
                isinstance(made, Attribute)
                and self.attributes.get(made.name) is not made
                and made not in self.local_attributes
            ):
                self.local_attributes.append(made)
        elif made.name is not None and made.name[0] != XSD:
            self.names.add(made.name)

    # -- declarations

    def _find(self, kind: str, name: Name) -> tuple[Node, _Document]:
        found = self._nodes.get((kind, name))
        if found is None:
            raise SchemaError(f"no {kind} {{{name[0]}}}{name[1]}")
        return found

    def element_named(self, name: Name) -> Element:
        """The global element of that name."""
        if name not in self.elements:
            node, document = self._find("element", name)
            self.elements[name] = self._element(node, document, name)
        return self.elements[name]

    def attribute_named(self, name: Name) -> Attribute:
        """The global attribute of that name."""
        if name not in self.attributes:
            if name[0] == XML and ("attribute", name) not in self._nodes:
                self.attributes[name] = Attribute(name, self._built_in("string"))  # xml.xsd is not there
            else:
                node, document = self._find("attribute", name)
                self.attributes[name] = Attribute(name, self._attribute_type(node, document))
        return self.attributes[name]

    def type_named(self, name: Name) -> SimpleType | ComplexType:
        """The type of that name, built-in ones included."""
        if name not in self.types:
            node, document = self._find("type", name)
            if node.tag == f"{{{XSD}}}complexType":
                made = ComplexType(name)
                self.types[name] = made  # first, since it may contain itself
                self._fill(made, node, document)
            else:
                self.types[name] = self._guard(self._simple, node, document, name)
        return self.types[name]

    def _guard(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._depth += 1
        self.check_time()
        if self._depth > self.limits.depth:
            raise SchemaError(f"definitions nested deeper than {self.limits.depth}")
        try:
            return function(*arguments)
        finally:
            self._depth -= 1

    def _name(self, node: Node, text: str, document: _Document) -> Name:
        prefix, colon, local = text.strip().rpartition(":")
        if prefix == "xml":
            return XML, local
        namespace = node.nsmap.get(prefix or None)
        if namespace is None:
            if colon:
                raise SchemaError(f"undeclared prefix in {text!r}")
            namespace = document.namespace if not document.namespace or self._is_chameleon(node) else ""
        return namespace, local

    @staticmethod
    def _is_chameleon(node: Node) -> bool:
        return node.getroottree().getroot().get("targetNamespace") is None

    def _element(self, node: Node, document: _Document, name: Name) -> Element:
        head = node.get("substitutionGroup")
        substitutes = self._name(node, head.split()[0], document) if head and head.split() else None

        def resolve() -> SimpleType | ComplexType:
            if node.get("type") is not None:
                return self.type_named(self._name(node, node.get("type"), document))
            for child in node:
                if child.tag in (f"{{{XSD}}}complexType", f"{{{XSD}}}simpleType"):
                    return self._anonymous(child, document)
            if substitutes is not None:
                return self.element_named(substitutes).type
            return self.any_type

        return Element(name, node.get("nillable", "").strip() in ("true", "1"), resolve, substitutes)

    def _anonymous(self, node: Node, document: _Document) -> SimpleType | ComplexType:
        key = id(node)
        if key not in self._made:
            self._roots.append(node)  # lxml makes proxies anew unless one is held
            if node.tag == f"{{{XSD}}}complexType":
                self._made[key] = ComplexType(None)
                self._fill(self._made[key], node, document)
            else:
                self._made[key] = self._guard(self._simple, node, document, None)
        return self._made[key]  # type: ignore[no-any-return]

    def _attribute_type(self, node: Node, document: _Document) -> SimpleType:
        made: Any = None
        if node.get("type") is not None:
            made = self.type_named(self._name(node, node.get("type"), document))
        for child in node:
            if child.tag == f"{{{XSD}}}simpleType":
                made = self._anonymous(child, document)
        if made is None:
            made = self._built_in("anySimpleType")
        if not isinstance(made, SimpleType):
            raise SchemaError(f"attribute {node.get('name')!r} is not of a simple type")
        return made

    # -- simple types

    def _simple(self, node: Node, document: _Document, name: Name | None) -> SimpleType:
        for child in node:
            kind = etree.QName(child).localname
            if kind == "restriction":
                return self._restrict(self._simple_base(child, document), child, name)
            if kind == "list":
                item = self._simple_base(child, document, "itemType")
                return SimpleType(name, self._built_in("anySimpleType"), "list", item)
            if kind == "union":
                for text in (
                    child.get("memberTypes") or ""
                ).split():  # so that errors are found; the members themselves do not matter
                    self.type_named(self._name(child, text, document))
                return SimpleType(name, self._built_in("anySimpleType"), "union", collapse=False)
        raise SchemaError("a simple type without restriction, list or union")

    def _simple_base(self, node: Node, document: _Document, attribute: str = "base") -> SimpleType:
        made: Any = None
        if node.get(attribute) is not None:
            made = self.type_named(self._name(node, node.get(attribute), document))
        for child in node:
            if child.tag == f"{{{XSD}}}simpleType":
                made = self._anonymous(child, document)
        if isinstance(made, ComplexType) and isinstance(made.content, SimpleType):
            made = made.content
        if not isinstance(made, SimpleType):
            raise SchemaError("a simple type is not derived from a simple type")
        return made

    @staticmethod
    def _restrict(base: SimpleType, node: Node, name: Name | None) -> SimpleType:
        patterns: list[str] = []
        values: list[str] = []
        low, high = base.bounds
        made = SimpleType(name, base, base.primitive, base.item, collapse=base.collapse)
        for facet in node:
            kind, value = etree.QName(facet).localname, facet.get("value", "")
            if kind == "pattern":
                patterns.append(value)
            elif kind == "enumeration":
                values.append(" ".join(value.split()) if base.collapse else value)
            elif kind == "whiteSpace":
                made.collapse = value == "collapse"
            elif (
                kind in ("minInclusive", "minExclusive", "maxInclusive", "maxExclusive") and base.primitive == "integer"
            ):
                try:
                    number = int(value)
                except ValueError:
                    raise SchemaError(f"{kind} {value!r} of an integer") from None
                if kind.startswith("min"):
                    number += kind == "minExclusive"
                    low = number if low is None else max(low, number)
                else:
                    number -= kind == "maxExclusive"
                    high = number if high is None else min(high, number)
        made.bounds = low, high
        made.patterns = tuple(patterns)
        made.enumeration = tuple(values) or base.enumeration
        return made

    # -- complex types

    def _fill(self, made: ComplexType, node: Node, document: _Document) -> None:
        self._guard(self._fill_guarded, made, node, document)

    def _fill_guarded(self, made: ComplexType, node: Node, document: _Document) -> None:
        made.mixed = node.get("mixed", "").strip() in ("true", "1")
        made.base = self.any_type
        body = node
        derivation = None
        for child in node:
            kind = etree.QName(child).localname
            if kind in ("simpleContent", "complexContent"):
                if child.get("mixed") is not None:
                    made.mixed = child.get("mixed").strip() in ("true", "1")
                for grandchild in child:
                    derivation = etree.QName(grandchild).localname
                    if derivation in ("restriction", "extension"):
                        body = grandchild
                        break
                else:
                    raise SchemaError(f"{kind} without restriction or extension")
                made.base = self.type_named(self._name(body, body.get("base", "xs:anyType"), document))
                if kind == "simpleContent":
                    made.content = self._simple_content(made.base, body, document, derivation)
        if not isinstance(made.content, SimpleType):
            made.content = self._model(body, document)
        base = made.base if derivation is not None else None
        if isinstance(base, ComplexType) and base is not made:
            if derivation == "extension" and not isinstance(made.content, SimpleType):
                if made.content is None:
                    made.content, made.mixed = base.content, base.mixed
                elif isinstance(base.content, Particle):
                    made.content = Particle(1, 1, Group("sequence", [base.content, made.content]))
            made.attributes.update(base.attributes)
        own = Wildcards()
        self._attributes(made, own, body, document)
        made.wildcard = own.result()
        if isinstance(base, ComplexType) and derivation == "extension" and base.wildcard is not None:
            made.wildcard = base.wildcard if made.wildcard is None else _union(base.wildcard, made.wildcard)
        if made.wildcard is not None and made.wildcard.uris is not None:
            self.namespaces.update(made.wildcard.uris)

    def _simple_content(self, base: Any, body: Node, document: _Document, derivation: str | None) -> SimpleType:
        inner = base.content if isinstance(base, ComplexType) else base
        for child in body:
            if child.tag == f"{{{XSD}}}simpleType":
                inner = self._anonymous(child, document)
        if not isinstance(inner, SimpleType):
            raise SchemaError("simple content without a simple type")
        if derivation == "extension":
            return inner
        return self._restrict(inner, body, None)

    def _attributes(self, made: ComplexType, wildcards: Wildcards, node: Node, document: _Document) -> None:
        for child in node:
            kind = etree.QName(child).localname
            if kind == "attribute":
                attribute = self._attribute_use(child, document)
                if child.get("use") == "prohibited":
                    made.attributes.pop(attribute.name, None)
                else:
                    made.attributes[attribute.name] = attribute, child.get("use") == "required"
            elif kind == "attributeGroup":
                group, home = self._find("attributeGroup", self._name(child, child.get("ref", ""), document))
                inner = Wildcards()
                self._guard(self._attributes, made, inner, group, home)
                wildcards.add(inner.result())
            elif kind == "anyAttribute":
                wildcards.add(self._wildcard(child, document))

    def _attribute_use(self, node: Node, document: _Document) -> Attribute:
        if node.get("ref") is not None:
            return self.attribute_named(self._name(node, node.get("ref"), document))
        key = id(node)
        if key not in self._made:
            self._roots.append(node)
            form = node.get("form")
            qualified = form == "qualified" if form is not None else document.qualified_attributes
            name = (document.namespace if qualified else "", node.get("name"))
            self._made[key] = Attribute(name, self._attribute_type(node, document))
        return self._made[key]  # type: ignore[no-any-return]

    def _wildcard(self, node: Node, document: _Document) -> Wildcard:
        namespace = node.get("namespace", "##any").split()
        if "notNamespace" in node.attrib or namespace in (["##any"], ["##other"]):
            return Wildcard(None)
        names = {"##local": "", "##targetNamespace": document.namespace}
        uris = tuple(dict.fromkeys(names.get(uri, uri) for uri in namespace))  # as written: that is their schema order
        self.namespaces.update(uris)
        return Wildcard(uris)

    def _model(self, node: Node, document: _Document) -> Particle | None:
        for child in node:
            if etree.QName(child).localname in ("sequence", "choice", "all", "group"):
                return self._particle(child, document)
        return None

    def _particle(self, node: Node, document: _Document) -> Particle | None:
        least, most = _occurs(node.get("minOccurs", "1")), _occurs(node.get("maxOccurs", "1"))
        if most == 0 or least is None:
            return None
        kind = etree.QName(node).localname
        term: Element | Wildcard | Group
        if kind == "element":
            term = self._local_element(node, document)
        elif kind == "any":
            term = self._wildcard(node, document)
        elif kind == "group":
            name = self._name(node, node.get("ref", ""), document)
            definition, home = self._find("group", name)
            inner = self._guard(self._model, definition, home)
            if inner is None:
                return None
            return Particle(least, most, Group("sequence", [inner]))
        else:
            particles = [
                particle
                for child in node
                if etree.QName(child).localname in ("element", "any", "sequence", "choice", "all", "group")
                and (particle := self._guard(self._particle, child, document)) is not None
            ]
            term = Group(kind, particles)
        return Particle(least, most, term)

    def _local_element(self, node: Node, document: _Document) -> Element:
        if node.get("ref") is not None:
            return self.element_named(self._name(node, node.get("ref"), document))
        key = id(node)
        if key not in self._made:
            self._roots.append(node)
            form = node.get("form")
            qualified = form == "qualified" if form is not None else document.qualified_elements
            name = (document.namespace if qualified else "", node.get("name"))
            self._made[key] = self._element(node, document, name)
        return self._made[key]  # type: ignore[no-any-return]

    def substitutable(self, head: Element) -> list[Element]:
        """`head` and all global elements that may stand for it, in the order of their names (EXI section 8.5.4.1.6)."""
        found = {head.name: head}
        if head is self.elements.get(head.name):
            more = True
            while more:
                self.check_time()
                more = False
                for element in self.elements.values():
                    if element.substitutes in found and element.name not in found:
                        found[element.name] = element
                        more = True
        return [found[name] for name in sorted(found, key=lambda name: (name[1], name[0]))]


class Wildcards:
    """The attribute wildcards of a type and of its groups: what all of them allow."""

    def __init__(self) -> None:
        self.parts: list[Wildcard] = []

    def add(self, wildcard: Wildcard | None) -> None:
        """Take one more into account."""
        if wildcard is not None:
            self.parts.append(wildcard)

    def result(self) -> Wildcard | None:
        """The intersection; None if there is no wildcard."""
        if not self.parts:
            return None
        named = [set(part.uris) for part in self.parts if part.uris is not None]
        return Wildcard(tuple(sorted(set.intersection(*named)))) if named else Wildcard(None)


def _union(a: Wildcard, b: Wildcard) -> Wildcard:
    if a.uris is None or b.uris is None:
        return Wildcard(None)
    return Wildcard(tuple(sorted({*a.uris, *b.uris})))


def _occurs(text: str) -> int | None:
    if text.strip() == "unbounded":
        return None
    try:
        return int(text)
    except ValueError:
        raise SchemaError(f"occurs {text!r} times") from None


def _leaves(content: Any) -> Iterator[Element | Wildcard]:
    if isinstance(content, Particle):
        if isinstance(content.term, Group):
            for particle in content.term.particles:
                yield from _leaves(particle)
        else:
            yield content.term


def _index(folder: Path) -> dict[str, Path]:
    """Schema files of a folder by their target namespace; of several the first by name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.xsd")):
        try:
            tree = etree.parse(path, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)).getroot()
        except etree.XMLSyntaxError:
            continue
        found.setdefault(tree.get("targetNamespace") or "", path)
    return found


def read(files: Iterable[Path], limits: Limits = Limits(), *, without: Container[str] = ()) -> Schema:
    """Read schema files and all that they import, but for the namespaces `without`.

    Raises `SchemaError` if one cannot be read or a limit is passed, and `OSError` if a file is not there.
    """
    schema = Schema(limits)
    for path in files:
        schema.load(path, without)
    schema.finish()
    return schema
