# SPDX-License-Identifier: Apache-2.0
"""``xiot status`` and ``xiot reload``: a running server, asked by its control socket."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from xiot.cli.main import config_option, counted
from xiot.server.config import Config
from xiot.server.control import ask

SOON_DAYS = 14
"""A certificate that runs out within so many days is shown as urgent."""


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(config: Config, as_json: bool) -> None:
    """Show how the running server is; exit status 1 if there is none."""
    code, told = ask(config.data_dir, "GET", "/status")
    if code != 200:
        raise click.ClickException(f"the server says: {told}")
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        show(told)


@click.command()
@config_option
def reload(config: Config) -> None:
    """Have the running server read its configuration and certificates anew; no session ends.

    The same as SIGHUP, but a file that cannot be used is an error here too.
    """
    code, told = ask(config.data_dir, "POST", "/reload")
    if code != 200:
        raise click.ClickException(f"not reloaded, the former configuration stays in force: {told['error']}")
    click.echo("reloaded")
    for what in told["waits_for_restart"]:
        click.echo(f"waits for a restart: {what}")


def show(told: dict[str, Any]) -> None:
    """The status for people."""
    now = datetime.now(UTC)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(name: str, *values: object) -> None:
        table.add_row(name, "\n".join(map(str, values)))

    row("server", f"xiot {told['version']}, process {told['pid']}, up {timedelta(seconds=told['uptime_s'])}")
    for host in told["hosts"]:
        left = datetime.fromisoformat(host["certificate_expires"]) - now
        until = (
            f"certificate good for {left.days} days" if left > timedelta(0) else "[red]certificate has run out[/red]"
        )
        if timedelta(0) < left < timedelta(days=SOON_DAYS):
            until = f"[red]{until}[/red]"
        row("host", f"{host['name']}: {counted(host['accounts_online'], 'account')} online, {until}")
    row("listens on", *(f"{each['address']} (TLS {each['tls']})" for each in told["listen"]))
    if told["http"]:
        row("metrics at", *(f"http://{address}/metrics" for address in told["http"]))
    row(
        "connections",
        f"{told['connections']:,}, of them {counted(told['sessions'], 'session')} ({told['sessions_tls']:,} with TLS)",
    )
    if told["sessions_detached"]:
        row("", f"{counted(told['sessions_detached'], 'session')} without, to be resumed")
    waiting = [f"{count:,} {state}" for state, count in told["waiting"].items() if count]
    row("waiting", ", ".join(waiting) or "none")
    row("stanzas", ", ".join(f"{count:,} {kind}" for kind, count in told["stanzas"].items()))
    if told["exi"]:
        octets, xml = (sum(told["exi"][f"{form}{way}"] for way in ("in", "out")) for form in ("", "xml_"))
        row("EXI", f"{told['sessions_exi']} sessions; {octets:,} octets in place of {xml:,}")
    row("octets", f"{told['bytes_in']:,} in, {told['bytes_out']:,} out, {told['queued_bytes']:,} queued")
    configuration = told["configuration"]
    row("configuration", f"of {configuration['loaded']}")
    if configuration["error"]:
        row("", f"[red]the last reload failed:[/red] {configuration['error']}")
    if configuration["waits_for_restart"]:
        row("", f"waits for a restart: {', '.join(configuration['waits_for_restart'])}")
    Console(highlight=False).print(table)
