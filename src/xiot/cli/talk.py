# SPDX-License-Identifier: Apache-2.0
"""``xiot send`` and ``xiot sub``: a message or a subscription from the command line."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

import xiot
from xiot.client import Item
from xiot.core import JID
from xiot.net.dial import parse_address
from xiot.stanzas import read_error

F = TypeVar("F", bound=Callable[..., Any])
PASSWORD = "XIOT_PASSWORD"


UNTRUSTED = range(18, 22)
"""What OpenSSL says of a certificate that is good but for who vouches for it (x509_vfy.h)."""


def a_jid(_: click.Context, __: click.Parameter, text: str) -> JID:
    """For an argument or option that is a JID."""
    try:
        return JID(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


def _address(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    try:
        if text is not None:
            parse_address(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def account_options(command: F) -> F:
    """Who logs in, and where."""
    for option in reversed(
        (
            click.option("--jid", "account", required=True, callback=a_jid, envvar="XIOT_JID", help="Account to log in with (or XIOT_JID)."),
            click.option("--password-stdin", is_flag=True, help=f"Read the password from standard input, one line (else {PASSWORD}, else a prompt)."),
            click.option("--address", metavar="HOST[:PORT]", callback=_address, envvar="XIOT_ADDRESS", help="Server to connect to, if not the JID's domain (or XIOT_ADDRESS)."),
            click.option("--ca-file", envvar="XIOT_CA_FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CA certificates to trust, if not the system's (or XIOT_CA_FILE)."),
            click.option("--no-tls", is_flag=True, help="Log in without TLS: where nobody can listen, as on loopback."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("to", callback=a_jid)
@click.argument("text", required=False)
@account_options
def send(to: JID, text: str | None, **options: Any) -> None:
    """Send a message to the JID TO: TEXT, or what comes from standard input."""
    if text is None:
        if options["password_stdin"]:
            raise click.UsageError("standard input is the password: give TEXT as an argument")
        text = sys.stdin.read().rstrip("\n")

    async def work(client: xiot.Client) -> None:
        id = await client.send_message(to, text)
        await client.ping()  # the server has dealt with the message when it answers
        with trio.move_on_after(0):
            async for message in client.messages():
                if message.type == "error" and message.id == id:
                    raise click.ClickException(f"{to} does not get it: {read_error(message.element)}")

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
        try:
            async with client.subscribe(node, service=service) as items:
                async for item in items:
                    click.echo(f"{item.publisher or '-'}\t{item.id}\t{describe(item)}")
                    left = None if left is None else left - 1
                    if left == 0:
                        return
        except xiot.StanzaError as error:
            if error.condition == "item-not-found":
                raise click.ClickException(f"there is no node {node}: the first who publishes makes it") from None
            raise

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
    account: JID,
    password_stdin: bool,
    address: str | None,
    ca_file: Path | None,
    no_tls: bool,
) -> None:
    """Log in and do `work`; a failure is one line and exit status 1."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = os.environ.get(PASSWORD) or click.prompt(f"Password of {account.bare}", hide_input=True, err=True)

    async def main() -> None:
        async with xiot.connect(
            account, password, address=address, ca_file=ca_file, tls="off" if no_tls else "required"
        ) as client:
            await work(client)

    try:
        trio.run(main)
    except (xiot.XiotError, TimeoutError, trio.TooSlowError, ValueError) as error:
        raise click.ClickException(explained(error, account)) from None


def explained(error: Exception, account: JID) -> str:
    """Why it failed, and what one may do about it."""
    match error:
        case xiot.AuthError(condition="not-authorized"):
            return f"no login as {account.bare}: the password is wrong, or there is no such account (not-authorized)"
        case xiot.StreamError(condition="host-unknown"):
            return f"the server does not serve {account.domain} (host-unknown)"
        case xiot.LinkError(__cause__=ssl.SSLCertVerificationError(verify_code=code)) if code in UNTRUSTED:
            return f"{error}; --ca-file names whom to trust"
        case TimeoutError() | trio.TooSlowError():
            return "no answer in time"
        case _:
            return str(error)
