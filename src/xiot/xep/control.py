# SPDX-License-Identifier: Apache-2.0
"""Control of the Neuro-Foundation, ``urn:nfi:iot:ctr:1.0``: setting parameters of things, and their form, both ends."""

import enum
from collections.abc import Mapping
from dataclasses import replace

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import SESSION, Extension, Inbound, Session
from xiot.model.control import Assignment, Parameter, ParameterError
from xiot.model.reading import Field, FieldType, Value, field, parse
from xiot.model.thing import Device
from xiot.schema import Payload, PayloadError, any_children, attr, child, children, text
from xiot.xep import forms
from xiot.xep.validation import Range, Validate

NS = "urn:nfi:iot:ctr:1.0"

# It announces no feature: only who has something to set does so, for as long as it has.
ext = Extension("control", spec="Neuro-Foundation control", version="1.0", needs=["forms", "validation"])

_TYPES: dict[str, FieldType] = {
    "b": "boolean",
    "db": "numeric",
    "i": "int",
    "l": "int",  # of 64 bits; "i" is of 32
    "s": "string",
    "d": "date",
    "dt": "dateTime",
    "dr": "duration",
    "t": "time",
    "e": "enum",
}
_NAMES = {type: name for name, type in _TYPES.items() if name != "l"}
_DATATYPES: dict[FieldType, str] = {
    "numeric": "xs:double",
    "int": "xs:long",
    "date": "xs:date",
    "dateTime": "xs:dateTime",
    "duration": "xs:duration",
    "time": "xs:time",
}
_OF_DATATYPE = {datatype: type for type, datatype in _DATATYPES.items()} | {
    "xs:int": "int",
    "xs:integer": "int",
    "xs:decimal": "numeric",
}


class Node(Payload, tag=(NS, "nd")):
    """One of the nodes of a concentrator."""

    id: str | None = attr(default=None)


class Set(Payload, tag=(NS, "set")):
    """Sets parameters, one by one or by a form."""

    nodes: tuple[Node, ...] = children(default=())
    form: forms.Form | None = child(default=None)
    values: tuple[Element, ...] = any_children(default=())


class Name(Payload, tag=(NS, "p")):
    """A parameter that was set."""

    n: str = attr()


class Response(Payload, tag=(NS, "resp")):
    """Which parameters were set; none: all that were to be."""

    parameters: tuple[Name, ...] = children(default=())


class GetForm(Payload, tag=(NS, "getForm")):
    """Asks for a form of all that can be set."""

    nodes: tuple[Node, ...] = children(default=())


class ParamError(Payload, tag=(NS, "paramError")):
    """Why a parameter could not be set, in the error of a stanza."""

    var: str = attr()
    problem: str = text(default="")


# ---- the thing's end ------------------------------------------------------------------------------------------


@ext.iq_set(Set, at=SESSION)
async def on_set(request: Set, ctx: Inbound) -> Response:
    """Set parameters of our thing; all values are checked before the first is set."""
    if request.nodes:
        raise StanzaError("item-not-found", text="this thing has no nodes")
    try:
        names = await ctx.service(Device).control(ctx.sender, _assignments(request))
    except ParameterError as error:
        app = ParamError(var=error.parameter, problem=error.text or "").to_element()
        raise StanzaError(error.condition, error.type, error.text, app) from error
    return Response(parameters=tuple(Name(n=name) for name in names))


@ext.message(Set, at=SESSION)
async def on_set_message(request: Set, ctx: Inbound) -> None:
    """The same without an answer, neither a good nor a bad one."""
    await on_set(request, ctx)


@ext.iq_get(GetForm, at=SESSION)
async def on_get_form(request: GetForm, ctx: Inbound) -> forms.Form:
    """Answer with the parameters of our thing, their limits, and what they are set to."""
    if request.nodes:
        raise StanzaError("item-not-found", text="this thing has no nodes")
    parameters = await ctx.service(Device).parameters(ctx.sender)
    return forms.Form(type="form", fields=tuple(map(_write_parameter, parameters)))


def _assignments(request: Set) -> list[Assignment]:
    given: list[Assignment] = []
    for el in request.values:
        name, value = el.get("n"), el.get("v")
        if el.ns != NS or name is None or value is None:
            raise PayloadError(f"set/{el.name}", "a parameter has a name and a value")
        if el.name not in _TYPES:
            raise ParameterError("feature-not-implemented", name, f"no parameter here has the type {el.name}")
        given.append(Assignment(name, value, _TYPES[el.name]))
    if request.form is not None:
        if request.form.type != "submit":
            raise PayloadError("set/x@type", "not submit")
        for one in request.form.fields:
            # XEP-0336 gives a form with a life of its own a hidden field: that is none of our parameters.
            if one.var is not None and one.type not in ("hidden", "fixed"):
                given.append(Assignment(one.var, one.values[0] if one.values else ""))
    if not given:
        raise PayloadError("set", "nothing is to be set")
    return given


def _write_parameter(parameter: Parameter) -> forms.Field:
    type = "boolean" if parameter.type == "boolean" else "list-single" if parameter.options else "text-single"
    return forms.Field(
        var=parameter.name,
        type=type,
        label=parameter.title,
        values=() if parameter.value is None else (parameter.text_of(parameter.value),),
        options=tuple(forms.Option(value=option) for option in parameter.options),
        extensions=_write_limits(parameter),
    )


def _write_limits(parameter: Parameter) -> tuple[Element, ...]:
    datatype = _DATATYPES.get(parameter.type)
    if datatype is None:
        return ()
    low, high = (None if limit is None else _text(limit) for limit in (parameter.low, parameter.high))
    range = None if low is None and high is None else Range(min=low, max=high)
    return (Validate(datatype=datatype, range=range).to_element(),)


def _text(limit: float) -> str:
    return Field("limit", limit, type="numeric").text


# ---- the other end --------------------------------------------------------------------------------------------


async def set_parameters(
    session: Session,
    to: JID,
    values: Mapping[str, Value | enum.Enum],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - that of the request
) -> tuple[str, ...]:
    """Set parameters of the thing `to`, which checks all before it sets one; returns the names of those that were set.

    Raises ParameterError if the thing says which one it refused, ValueError if a value cannot be sent, and as
    `Session.request`.
    """
    request = Set(values=tuple(_write_value(field(name, value)) for name, value in values.items()))
    try:
        answer = await session.request("set", request, to=to, timeout=timeout)
    except StanzaError as error:
        raise _read_error(error) from None
    response = Response.from_element(answer)
    return tuple(name.n for name in response.parameters) or tuple(values)


async def get_form(
    session: Session,
    to: JID,
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - that of the request
) -> tuple[Parameter, ...]:
    """Ask what can be set in the thing `to`. Raises as `Session.request`, and PayloadError if it answers no form."""
    form = forms.Form.from_element(await session.request("get", GetForm(), to=to, timeout=timeout))
    return tuple(_read_parameter(one) for one in form.fields if one.var and one.type not in ("hidden", "fixed"))


def _write_value(value: Field) -> Element:
    name = "l" if value.type == "int" and not -(2**31) <= int(value.text) < 2**31 else _NAMES[value.type]
    el = Element(f"{{{NS}}}{name}", {"n": value.name, "v": value.text})
    if value.data_type is not None:
        el.set("t", value.data_type)
    return el


def _read_error(error: StanzaError) -> StanzaError:
    if error.app is None or error.app.tag != ParamError.TAG:
        return error
    # The schema calls the attribute "var", things of the Neuro-Foundation's own library write "n".
    name = error.app.get("var") or error.app.get("n") or ""
    return ParameterError(error.condition, name, error.app.text or error.text or error.condition, error.type)


def _read_parameter(one: forms.Field) -> Parameter:
    assert one.var is not None
    validate = next((Validate.from_element(el) for el in one.extensions if el.tag == Validate.TAG), Validate())
    type: FieldType = "boolean" if one.type == "boolean" else _OF_DATATYPE.get(validate.datatype, "string")
    try:
        low = high = None
        if type in ("numeric", "int") and validate.range is not None:
            low, high = (None if limit is None else float(limit) for limit in (validate.range.min, validate.range.max))
        parameter = Parameter(
            one.var, type, None, low, high, tuple(option.value for option in one.options), label=one.label
        )
        return replace(parameter, value=parse(type, one.values[0])) if one.values else parameter
    except ValueError as error:
        raise PayloadError("x/field", str(error)[:200]) from None
