# SPDX-License-Identifier: Apache-2.0
"""XEP-0004: Data Forms, and the FORM_TYPE of XEP-0068."""

from collections.abc import Iterable, Mapping
from typing import Literal, Self

from _xmppcore import Element
from xiot.ext import Extension
from xiot.schema import Payload, any_children, attr, child, children, flag

NS = "jabber:x:data"
ext = Extension("forms", spec="XEP-0004", version="2.13.2", features=[NS])


class Option(Payload, tag=(NS, "option")):
    """One of the values a list field offers (section 3.2)."""

    label: str | None = attr(default=None)
    value: str = child()


class Field(Payload, tag=(NS, "field")):
    """A field of a form (section 3.2)."""

    var: str | None = attr(default=None)
    type: str | None = attr(default=None)
    label: str | None = attr(default=None)
    required: bool = flag(default=False)
    values: tuple[str, ...] = children(name="value", default=())
    options: tuple[Option, ...] = children(default=())
    extensions: tuple[Element, ...] = any_children(default=())
    """What other specifications add to a field."""


class Form(Payload, tag=(NS, "x")):
    """A form to be filled in, a filled-in one, or a result (section 3.1)."""

    type: Literal["form", "submit", "cancel", "result"] = attr()
    title: str | None = child(default=None)
    instructions: tuple[str, ...] = children(default=())
    fields: tuple[Field, ...] = children(default=())

    @classmethod
    def submit(cls, form_type: str, values: Mapping[str, str | Iterable[str]]) -> Self:
        """Return a filled-in form of the type `form_type` (XEP-0068) with `values` by variable."""
        hidden = Field(var="FORM_TYPE", type="hidden", values=(form_type,))
        fields = (Field(var=var, values=(v,) if isinstance(v, str) else tuple(v)) for var, v in values.items())
        return cls(type="submit", fields=(hidden, *fields))

    @property
    def form_type(self) -> str | None:
        """What registers the names of the fields (XEP-0068 section 3), None if nothing does."""
        values = self.values.get("FORM_TYPE")
        return values[0] if values else None

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """The values by variable; fields without a variable are only text to be shown."""
        return {field.var: field.values for field in self.fields if field.var is not None}
