# SPDX-License-Identifier: Apache-2.0
"""``xiot exi``: compile schemas, encode, decode and compare; on files or standard input and output."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from xiot import exi as codec
from xiot.exi import Grammar, Options, Session

F = TypeVar("F", bound=Callable[..., Any])
PRESERVE = ("comments", "pis", "prefixes", "lexical")
TABLES = ".xeg"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the codec and the compiler raise into one line."""
    try:
        yield
    except ValueError as error:  # ExiError and SchemaError are among them
        raise click.ClickException(str(error)) from None


def load(paths: tuple[Path, ...]) -> Grammar | None:
    """The grammar of schema files, or of tables that were compiled before; None without any."""
    if not paths:
        return None
    with explained():
        if len(paths) == 1 and paths[0].suffix == TABLES:
            return Grammar(paths[0].read_bytes())
        return codec.compile_schemas(*paths)


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
schema_option = click.option(
    "--schema", "schemas", multiple=True, type=FILE, metavar="FILE", help=f"Schema (.xsd), or tables ({TABLES})."
)


def coding_options(command: F) -> F:
    """Add the options of a stream, which the command gets as one `Options`."""

    def called(*args: Any, preserve: tuple[str, ...], **given: Any) -> Any:
        chosen = {field.name: given.pop(field.name) for field in fields(Options) if field.name in given}
        with explained():
            options = Options(**chosen | dict.fromkeys(preserve, True))
        return command(*args, options=options, **given)

    for option in (
        click.option("--strict", is_flag=True, help="Only what the schema has."),
        click.option("--fragment", is_flag=True, help="A sequence of elements."),
        click.option("--alignment", type=click.Choice(codec.ALIGNMENTS), default="bit-packed", show_default=True),
        click.option("--compression", is_flag=True, help="DEFLATE."),
        click.option("--preserve", multiple=True, type=click.Choice(PRESERVE), help="May be given again."),
        click.option("--value-max-length", type=click.IntRange(0), help="Longest string of the table, in characters."),
        click.option("--value-partition-capacity", type=click.IntRange(0), help="Most strings of the table."),
        schema_option,
        click.option("--output", "-o", type=click.File("wb"), default="-", help="Else standard output."),
        click.argument("file", type=click.File("rb"), default="-"),
    ):
        called = option(called)
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called  # type: ignore[return-value]


@click.group()
def exi() -> None:
    """XML as compact bits (EXI 1.0): encode, decode, compare, compile schemas."""


@exi.command("compile")
@click.argument("schemas", nargs=-1, type=FILE, metavar="SCHEMA...")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar=f"FILE{TABLES}")
@click.option("--no-fragments", is_flag=True, help="Leave out what only fragments need: smaller.")
def compile_(schemas: tuple[Path, ...], output: Path, no_fragments: bool) -> None:
    """Compile SCHEMA files, and what they import from their folder, to tables. Without any: the built-in types."""
    with explained():
        grammar = codec.compile_schemas(*schemas, fragments=not no_fragments)
    output.write_bytes(grammar.tables())
    click.echo(f"{output}: {grammar.size_bytes:,} bytes, {grammar.globals:,} global elements")


@exi.command()
@click.argument("ours", type=FILE)
@click.argument("theirs", type=FILE)
def equal(ours: Path, theirs: Path) -> None:
    """Say whether two schema files, with all that they import, give the same bits; if not, where, and exit with 1."""
    from xiot.exi.compiler.equal import differences

    with explained():
        found = differences([ours], [theirs])
    for difference in found:
        click.echo(str(difference))
    if found:
        raise click.exceptions.Exit(1)
    click.echo("equal")


@exi.command()
@click.option("--cookie", is_flag=True, help="Begin with $EXI.")
@click.option("--in-header", is_flag=True, help="Say the options in the header.")
@click.option("--schema-id", metavar="ID", help="What the header calls the schema.")
@coding_options
def encode(options: Options, schemas: tuple[Path, ...], file: BinaryIO, output: BinaryIO) -> None:
    """Encode the XML in FILE, or standard input."""
    with explained():
        output.write(codec.encode(file.read(), options, load(schemas)))


@exi.command()
@click.option("--plain-numbers", is_flag=True, help="Floats as 23.4, not 234E-1.")
@coding_options
def decode(options: Options, schemas: tuple[Path, ...], file: BinaryIO, output: BinaryIO) -> None:
    """Decode the EXI in FILE, or standard input, to XML. Options in its header win."""
    with explained():
        output.write(codec.decode(file.read(), options, load(schemas)))


@exi.command()
@click.argument("file", type=click.File("rb"), default="-")
def info(file: BinaryIO) -> None:
    """Say what FILE is: the options in its header, or how large compiled tables are."""
    data = file.read()
    with explained():
        if data.startswith(b"XEG1"):
            grammar = Grammar(data)
            click.echo(f"tables, {grammar.size_bytes:,} bytes, {grammar.globals:,} global elements")
            return
        options, bits = codec.read_header(data)
    click.echo(f"EXI 1.0, {len(data):,} bytes, header {bits} bits")
    if options is None:
        click.echo("no options in the header")
        return
    for field in fields(Options):
        value = getattr(options, field.name)
        if value != field.default and field.name != "in_header":
            click.echo(f"{field.name}: {value}")


@exi.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@schema_option
def compare(files: tuple[Path, ...], schemas: tuple[Path, ...]) -> None:
    """Print how many bytes each FILE takes as XML, deflated, and as EXI under several options, bodies without a header.

    Without a schema: by none, by the schemas of the XEPs, and by the xiot set. A session keeps its string tables from one file to the next.
    """
    given = load(schemas)
    sets = {"schema": given} if given is not None else {"xeps": codec.xmpp_schemas(), "xiot": codec.xiot_schemas()}
    plain = Options()
    columns: dict[str, Callable[[bytes], int]] = {
        "xml": len,
        "deflate": lambda xml: len(zlib.compress(xml, 9, wbits=-15)),
        "exi": _measure(plain, None),
        **{name: _measure(plain, grammar) for name, grammar in sets.items()},
    }
    if given is not None:
        columns |= {
            "strict": _measure(Options(strict=True), given),
            "bytes": _measure(Options(alignment="byte-aligned"), given),
            "compress": _measure(Options(compression=True), given),
        }
    for name, grammar in ({"exi": None} | sets).items():
        columns[f"{name} session"] = _measure(plain, grammar, keep=True)
    sums = dict.fromkeys(columns, 0)
    rows = []
    for path in files:
        row = [path.name]
        for name, measure in columns.items():
            try:
                size = measure(path.read_bytes())
            except codec.ExiError as error:
                if error.condition != "strict":
                    raise click.ClickException(f"{path}: {error}") from None
                row.append("-")
                continue
            sums[name] += size
            row.append(f"{size:,}")
        rows.append(row)
    console = Console()
    widths = {name: max(len(f"{total:,}"), *map(len, name.split())) for name, total in sums.items()}
    left = max(8, console.width - sum(widths.values()) - 2 * len(widths) - 2)
    table = Table(
        Column("file", "sum", no_wrap=True, max_width=left),
        *(
            Column(name.replace(" ", "\n"), f"{sums[name]:,}", justify="right", no_wrap=True, min_width=width)
            for name, width in widths.items()
        ),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_footer=len(files) > 1,
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _measure(options: Options, grammar: Grammar | None, *, keep: bool = False) -> Callable[[bytes], int]:
    session = Session(options, grammar, keep=keep, max_output_bytes=1 << 28, max_depth=256, max_attributes=1024)
    return lambda xml: len(session.encode(xml))
