# SPDX-License-Identifier: Apache-2.0
"""``xiot read`` and ``xiot set``: ask a thing for its values, set its parameters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import xiot
from xiot.cli.talk import a_jid, account_options, run
from xiot.core import JID
from xiot.model import units
from xiot.model.control import Assignment, Parameter, ParameterError
from xiot.model.reading import Category, Field, Reading

TIMEOUT_S = 30.0
KINDS = [str(kind.name).lower() for kind in Category if kind is not Category.HISTORICAL]
SWITCH = {"on": "true", "yes": "true", "off": "false", "no": "false"}


@click.command()
@click.argument("jid", callback=a_jid)
@click.argument("fields", metavar="[FIELD]...", nargs=-1)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only fields of this kind; may be given again."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--timeout",
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    help="How long to wait.",
)
@account_options
def read(
    jid: JID, fields: tuple[str, ...], kinds: tuple[str, ...], as_json: bool, timeout: float, **options: Any
) -> None:  # fmt: skip
    """Ask the thing JID for its FIELDs, or for all of them.

    A JID without a resource means the first one there that can be read.
    """

    async def work(client: xiot.Client) -> None:
        async with explained(jid, "read"):
            reading = await client.things.read(jid, fields=fields, kinds=kinds or KINDS, timeout=timeout)
        if as_json:
            click.echo(json.dumps(to_json(jid, reading)))
        else:
            show(("field", "value", "unit", "kind"), [row(field) for field in reading])
        for error in reading.errors:
            click.echo(f"not read: {printable(error)}", err=True)
        named = {error.partition(":")[0] for error in reading.errors}
        missing = [name for name in fields if name not in reading and name not in named]
        if missing:
            raise click.ClickException(f"{jid} has no field {', '.join(missing)}; xiot read {jid} shows all it has")
        if reading.errors:
            raise click.exceptions.Exit(1)

    run(work, **options)


@click.command("set")
@click.argument("jid", callback=a_jid)
@click.argument("name", required=False)
@click.argument("value", required=False)
@click.option(
    "--timeout",
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    help="How long to wait.",
)
@account_options
def set_(jid: JID, name: str | None, value: str | None, timeout: float, **options: Any) -> None:
    """Set the parameter NAME of the thing JID to VALUE; without them, show what can be set.

    A negative VALUE comes behind --, as in: xiot set JID --jid ME -- offset -2.
    """
    if name is not None and value is None:
        raise click.UsageError(f"what shall {name} be set to?")

    async def work(client: xiot.Client) -> None:
        async with explained(jid, "control"):
            parameters = await client.things.describe(jid, timeout=timeout)
            if name is None or value is None:
                show(("parameter", "value", "may be"), [(p.title, text_of(p), values_of(p)) for p in parameters])
                return
            parameter = next((p for p in parameters if p.name == name), None)
            if parameter is None:
                names = printable(", ".join(p.name for p in parameters))
                raise click.ClickException(f"{jid} has no parameter {name}, but: {names}")
            text = SWITCH.get(value.lower(), value) if parameter.type == "boolean" else value
            await client.things.set(jid, {name: parameter.check(Assignment(name, text))}, timeout=timeout)

    run(work, **options)


@asynccontextmanager
async def explained(jid: JID, purpose: str) -> AsyncIterator[None]:
    """Turn what a thing may answer into a line that says what to do."""
    try:
        yield
    except ParameterError as error:
        raise click.ClickException(printable(str(error))) from None
    except xiot.StanzaError as error:
        match error.condition:
            case "forbidden":
                hint = f"it does not let us {purpose} it: log in with its own account, or have its owner allow ours"
            case "service-unavailable" | "feature-not-implemented":
                hint = "no thing answers there: is it online, and is the resource right?"
            case "remote-server-not-found" | "remote-server-timeout":
                hint = "its server cannot be reached"
            case _:
                hint = error.text or error.condition
        raise click.ClickException(printable(hint if hint.startswith(str(jid)) else f"{jid}: {hint}")) from None
    except TimeoutError:
        raise click.ClickException(f"{jid} did not answer in time; --timeout gives it longer") from None


def row(field: Field) -> tuple[str, ...]:
    """Name, value, unit and kinds, as people read them."""
    unit = units.symbol(field.unit) if field.unit is not None else ""
    return field.name, field.text, unit, " ".join(kinds_of(field))


def kinds_of(field: Field) -> list[str]:
    """The names of its categories."""
    return [str(kind.name).lower() for kind in field.categories]


def to_json(jid: JID, reading: Reading) -> dict[str, object]:
    """The reading for programs: numbers and truth values as such, all else as text; units as their codes."""
    fields = [
        {
            "name": field.name,
            "value": field.value if isinstance(field.value, bool | int | float) else field.text,
            "unit": field.unit,
            "type": field.type,
            "kinds": kinds_of(field),
        }
        for field in reading
    ]
    return {
        "jid": str(jid),
        "timestamp": reading.timestamp.isoformat(),
        "fields": fields,
        "errors": list(reading.errors),
    }


def text_of(parameter: Parameter) -> str:
    """What it is set to."""
    return "" if parameter.value is None else parameter.text_of(parameter.value)


def values_of(parameter: Parameter) -> str:
    """What it can be set to."""
    if parameter.options:
        return ", ".join(parameter.options)
    limits = (("from", parameter.low), ("to", parameter.high))
    return " ".join([parameter.type, *(f"{word} {limit:g}" for word, limit in limits if limit is not None)])


def printable(text: str) -> str:
    """Without what a terminal would obey: a thing may say anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people; without a terminal lines with tabs, for programs."""
    rows = [[printable(cell) for cell in row] for row in rows]
    console = Console()
    if not console.is_terminal:
        for cells in rows:
            click.echo("\t".join(cells))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for cells in rows:
        table.add_row(*map(Text, cells))  # not markup, whatever a thing calls its fields
    console.print(table)
