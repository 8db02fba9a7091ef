# SPDX-License-Identifier: Apache-2.0
"""``xiot init``: a first configuration, with what one may want to change explained."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import click

from xiot.server.config import HostName, load

TEMPLATE = """\
# Configuration of an xiot server. What stands behind "#" is the default, or an example.
# Check it:       xiot check --config {path}
# Take it over:   xiot reload --config {path}    (or SIGHUP; no session ends)

# Accounts, stored messages, certificates made for trying out. Relative paths start at the folder of this file.
data_dir = {data_dir}

[[host]]                     # one table for each domain
name = "{host}"
# admins = ["admin@{host}"]
# registration = "off"       # "open": anybody may make an account from a client
# mechanisms = ["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]
# certificate = "cert.pem"   # of this host only
# private_key = "key.pem"
# client_ca = "ca.pem"
# durable_links = "asked"    # "all", "off": what is acknowledged is on disk, and sessions survive a crash
# durable_accounts = ["boiler@{host}"]      # also if the client does not ask
# contact.abuse = ["mailto:abuse@{host}"]   # also admin, feedback, sales, security, status, support

# [tls]                      # for all hosts without their own; without any, a certificate is made that nobody trusts
# certificate = "/etc/letsencrypt/live/{host}/fullchain.pem"
# private_key = "/etc/letsencrypt/live/{host}/privkey.pem"

[c2s]                        # where clients connect; with listen_tls, TLS begins with the first octet
listen = {listen}
listen_tls = {listen_tls}
# starttls = "required"      # "optional", "off": for a closed network only
# plain_without_tls = false
# client_ca = "ca.pem"       # whose certificates log clients in (EXTERNAL)
# location = "node1.{host}:5222"            # where clients shall come back to resume a session

[exi]                        # streams in EXI (XEP-0322): XML as compact bits
# listen = ["0.0.0.0:5226"]  # for clients that speak EXI from the first octet
# listen_tls = ["0.0.0.0:5227"]             # the same inside TLS
# in_band = true             # for others after their login
# session_wide = true        # string tables may last as long as the stream
# value_max_length = 64      # of their strings
# value_partition_capacity = 64             # strings in them
# upload = false             # clients may send schemas
# download_hosts = []        # from where the server may fetch schemas for clients, by HTTPS
# schema_bytes = 131072      # of one of them
# schemas_bytes = 4194304    # of all that are kept
# aliases = []               # further schemas that clients may name: tables of namespace, bytes, md5 and file

[http]                       # /metrics, /healthz and /readyz, without names of people
listen = ["127.0.0.1:5281"]

[log]
# level = "info"             # "debug", "warning", "error"

[accounts]
# scram_iterations = 10000   # rounds of PBKDF2 for new passwords
# token_days = 21            # how long a client may log in again by a token; 0: there are none

[limits]
account_bytes_per_s = 100000 # who sends more, on average, has to wait; 0 is off
account_stanzas_per_s = 500
address_bytes_per_s = 1000000
address_stanzas_per_s = 5000
# burst_s = 10               # so many seconds' worth may come at once
# connections_per_address = 0
# resources_per_account = 32
# offline_messages_per_account = 1000
# offline_bytes_per_account = 10000000
# stored_bytes_per_account = 1048576   # vCard and private data
# auth_failures_per_stream = 5
# auth_failures_per_address = 60       # in ten minutes
# auth_failures_per_account = 100
# auth_failure_delay_s = 0.5
# registrations_per_address_per_hour = 5
# pre_auth_s = 30            # time to log in
# resume_s = 600             # how long a session waits for its client to come back (XEP-0198); 0 is never
# dedupe_ids_per_account = 10000       # of durable links: a message that comes again is taken once
# dedupe_s = 86400
# idle_s = 1800              # a silent client is asked, then its stream is closed; 0 is off
# stall_s = 60               # a client that takes nothing is closed
# max_stanza_bytes = 262144
# pre_auth_stanza_bytes = 10000
# max_depth = 64
# max_attributes = 256
# out_high_bytes = 1048576   # waiting for one client; above, who sends to it is slowed
"""


@click.command()
@click.argument("host", required=False)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default="xiot.toml",
    show_default=True,
    metavar="FILE",
    help="File to write.",
)
@click.option(
    "--data-dir", default="data", show_default=True, metavar="FOLDER", help="Where the server keeps what it stores."
)
@click.option("--local", is_flag=True, help="Listen on loopback only: for trying out.")
@click.option("--force", is_flag=True, help="Replace the file.")
def init(host: str | None, path: Path, data_dir: str, local: bool, force: bool) -> None:
    """Write a first configuration for the domain HOST, with comments."""
    if host is None and sys.stdin.isatty():
        host = click.prompt("Domain of the addresses (the part behind @)", default=socket.getfqdn(), err=True)
    if host is None:
        raise click.UsageError("HOST is missing: the domain of the addresses, such as plant.example")
    try:
        name = HostName(host)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'HOST'") from None
    write(path, name, data_dir, local=local, force=force)
    click.echo(f"wrote {path}")
    click.echo("next:")
    for command in (f"user add admin@{name}", "check", "serve"):
        click.echo(f"  xiot {command} --config {path}")


def quoted(value: str | list[str]) -> str:
    """A TOML string, or an array of them."""
    return json.dumps(value, ensure_ascii=False)


def write(path: Path, host: HostName, data_dir: str, *, local: bool = False, force: bool = False) -> None:
    """Write the configuration. Raises click.ClickException if there is a file already, OSError."""
    places = ["127.0.0.1", "[::1]"] if local else ["0.0.0.0", "[::]"]
    listen, listen_tls = ([f"{place}:{port}" for place in places] for port in (5222, 5223))
    text = TEMPLATE.format(
        path=path, host=host, data_dir=quoted(data_dir), listen=quoted(listen), listen_tls=quoted(listen_tls)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL), 0o644)
    except FileExistsError:
        raise click.ClickException(f"{path} exists already; --force replaces it") from None
    with open(file, "w", encoding="utf-8") as out:
        out.write(text)
    load(path)  # what we write is good
