# SPDX-License-Identifier: Apache-2.0
"""``xiot send`` and ``xiot sub``: a message or a subscription from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

import xiot
from xiot.client import Item
from xiot.core import JID

F = TypeVar("F", bound=Callable[..., Any])
PASSWORD = "XIOT_PASSWORD"


def account_options(command: F) -> F:
    """Who logs in, and where."""
    for option in reversed(
        (
            click.option("--jid", "account", required=True, envvar="XIOT_JID", help="Account to log in with (or XIOT_JID)."),
            click.option("--password-stdin", is_flag=True, help=f"Read the password from standard input, one line (else {PASSWORD}, else a prompt)."),
            click.option("--address", metavar="HOST[:PORT]", envvar="XIOT_ADDRESS", help="Server to connect to, if not the JID's domain (or XIOT_ADDRESS)."),
            click.option("--ca-file", envvar="XIOT_CA_FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CA certificates to trust, if not the system's (or XIOT_CA_FILE)."),
            click.option("--no-tls", is_flag=True, help="Log in without TLS: on loopback only."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("to")
@click.argument("text", required=False)
@account_options
def send(to: str, text: str | None, **options: Any) -> None:
    """Send a message to the JID TO: TEXT, or what comes from standard input."""
    if text is None:
        if options["password_stdin"]:
            raise click.UsageError("standard input is the password: give TEXT as an argument")
        text = sys.stdin.read().rstrip("\n")

    async def work(client: xiot.Client) -> None:
        await client.send_message(to, text)
        await client.ping()  # the server has dealt with the message when it answers

    run(work, **options)


@click.command()
@click.argument("node")
@click.option("--service", help="JID of the pubsub service, if not that of our host.")
@click.option("--count", "-n", type=click.IntRange(1), help="Stop after so many items.")
@account_options
def sub(node: str, service: str | None, count: int | None, **options: Any) -> None:
    """Subscribe to NODE and print each item as it arrives, one a line."""

    async def work(client: xiot.Client) -> None:
        left = count
        async with client.subscribe(node, service=service) as items:
            async for item in items:
                click.echo(f"{item.publisher or '-'}\t{item.id}\t{describe(item)}")
                left = None if left is None else left - 1
                if left == 0:
                    return

    run(work, **options)


def describe(item: Item) -> str:
    """A reading as "name=value unit", apart by tabs; anything else as XML."""
    try:
        return "\t".join(f"{field.name}={field}" for field in item.reading)
    except ValueError:
        return item.payload.tobytes().decode() if item.payload is not None else ""


def run(
    work: Callable[[xiot.Client], Awaitable[None]],
    *,
    account: str,
    password_stdin: bool,
    address: str | None,
    ca_file: Path | None,
    no_tls: bool,
) -> None:
    """Log in and do `work`; a failure is one line and exit status 1."""
    try:
        jid = JID(account)
    except ValueError as error:
        raise click.UsageError(f"--jid: {error}") from None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = os.environ.get(PASSWORD) or click.prompt(f"Password of {jid.bare}", hide_input=True, err=True)

    async def main() -> None:
        async with xiot.connect(
            jid, password, address=address, ca_file=ca_file, tls="off" if no_tls else "required"
        ) as client:
            await work(client)

    try:
        trio.run(main)
    except (xiot.XiotError, TimeoutError, trio.TooSlowError, ValueError) as error:
        raise click.ClickException(str(error) or "no answer in time") from None
