# SPDX-License-Identifier: Apache-2.0
"""``xiot user``: the accounts of a server, in its database; the server may be running.

The server sees a change at the next login; the sessions of an account that is removed end at once.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import click
import trio

from xiot.cli.main import config_option, counted
from xiot.core import JID
from xiot.server.accounts import Accounts
from xiot.server.config import Config, HostName
from xiot.server.control import NotRunning, ask
from xiot.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

MAX_PASSWORD_BYTES = 4_096
"""Of one line of standard input: far more than anybody types."""


@click.group()
def user() -> None:
    """Add, change, remove and list accounts."""


def account_argument(command: F) -> F:
    """Add the argument JID, a bare one with a local part, to a command."""
    return click.argument("jid", callback=_account)(command)


def password_option(command: F) -> F:
    """Add ``--password-stdin`` to a command."""
    option = click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")
    return option(command)


def _account(_: click.Context, __: click.Parameter, text: str) -> JID:
    try:
        jid = JID(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if jid.local is None or not jid.is_bare:
        raise click.BadParameter(f"{jid} is not like juliet@example.org")
    return jid


def _host(_: click.Context, __: click.Parameter, text: str | None) -> HostName | None:
    try:
        return None if text is None else HostName(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@user.command()
@account_argument
@password_option
@config_option
def add(jid: JID, password_stdin: bool, config: Config) -> None:
    """Make the account JID."""
    _check_host(jid.domain, config)
    password = _password(jid, password_stdin)
    _run(config, lambda accounts: accounts.add(jid, password))
    click.echo(f"added {jid}")


@user.command()
@account_argument
@password_option
@config_option
def passwd(jid: JID, password_stdin: bool, config: Config) -> None:
    """Change the password of the account JID."""
    _check_host(jid.domain, config)
    password = _password(jid, password_stdin)
    _run(config, lambda accounts: accounts.passwd(jid, password))
    click.echo(f"changed the password of {jid}")


@user.command()
@account_argument
@config_option
def remove(jid: JID, config: Config) -> None:
    """Remove the account JID, and end its sessions.

    Its contacts and subscriptions go too.
    """
    _check_host(jid.domain, config)
    _run(config, lambda accounts: accounts.remove(jid))
    click.echo(f"removed {jid}")
    with suppress(NotRunning):
        code, told = ask(config.data_dir, "POST", "/sessions/end", {"jid": str(jid)})
        if code != 200:
            raise click.ClickException(f"its sessions could not be ended: {told}")
        if told["sessions"]:
            click.echo(f"ended {counted(told['sessions'], 'session')}")


@user.command("list")
@click.argument("host", required=False, callback=_host)
@config_option
def list_(host: HostName | None, config: Config) -> None:
    """Print the accounts of HOST, or of all hosts, one JID a line."""
    if host is not None:
        _check_host(host, config)

    async def echo(accounts: Accounts) -> None:
        for name in [each.name for each in config.hosts] if host is None else [host]:
            async for jid in accounts.list(name):
                click.echo(jid)

    _run(config, echo)


def _run(config: Config, work: Callable[[Accounts], Awaitable[T]]) -> T:
    """Do `work` on the database that `config` names."""

    async def main() -> T:
        async with Store.open(config.database) as store:
            return await work(await Accounts.open(store, config))

    return trio.run(main)


def _check_host(host: str, config: Config) -> None:
    hosts = [each.name for each in config.hosts]
    if host not in hosts:
        raise click.ClickException(f"{host} is not a host of this server; the configuration has: {', '.join(hosts)}")


def _password(jid: JID, from_stdin: bool) -> str:
    if not from_stdin:
        password: str = click.prompt(f"Password of {jid}", hide_input=True, confirmation_prompt=True, err=True)
        return password
    line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES + 1)
    if len(line) > MAX_PASSWORD_BYTES:
        raise click.ClickException(f"the password is longer than {MAX_PASSWORD_BYTES} bytes")
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.ClickException("the password is not UTF-8") from None
