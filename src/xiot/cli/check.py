# SPDX-License-Identifier: Apache-2.0
"""``xiot check``: what is wrong with a configuration, before clients find out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from xiot.cli.main import config_option, counted
from xiot.server import checks
from xiot.server.checks import Finding
from xiot.server.config import Config

DNS_S = 5.0  # for one name: resolvers that are well answer in a tenth of it
STYLES = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("PROBLEM", "red")}


@click.command()
@config_option
@click.option("--dns", is_flag=True, help="Also ask DNS whether clients find the server.")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CA certificates that clients trust, if not the system's.",
)
@click.pass_context
def check(context: click.Context, config: Config, dns: bool, ca_file: Path | None) -> None:
    """Check a configuration: files, ports, certificates and, with --dns, names.

    Exit status 1 if there is a problem, 78 if the file cannot be used at all.
    """
    click.echo(_line(Finding("ok", "file", str(context.meta["xiot.config"]))))
    problems = warnings = 0
    for finding in findings(config, dns=dns, ca_file=ca_file):
        click.echo(_line(finding))
        problems += finding.level == "problem"
        warnings += finding.level == "warning"
    if problems or warnings:
        click.echo(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    context.exit(1 if problems else 0)


def findings(config: Config, *, dns: bool = False, ca_file: Path | None = None) -> Iterator[Finding]:
    """All findings, as they are made."""
    yield from checks.files(config)
    yield from checks.ports(config)
    yield from checks.policy(config)
    yield from checks.schemas(config)
    for host in config.hosts:
        yield from checks.certificate(config, host, datetime.now(UTC), ca_file)
        if dns:
            from dns.resolver import Resolver

            resolver = Resolver()
            resolver.lifetime = DNS_S
            yield from checks.dns_records(config, host, resolver)


def _line(finding: Finding) -> str:
    word, colour = STYLES[finding.level]
    return f"{click.style(f'{word:<8}', fg=colour)} {finding.about}: {finding.text}"
