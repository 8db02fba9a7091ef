# SPDX-License-Identifier: Apache-2.0
"""``xiot serve``: run the server of a configuration file."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog
import trio

from xiot.cli.main import config_option
from xiot.server.config import Config, load
from xiot.server.server import Server

_PLAIN = frozenset((type(None), bool, int, float))
_QUOTED = re.compile(r"""[ \t=\r\n"']""")  # what a value without quotes would be taken for something else by


@click.command()
@config_option
@click.option("--log-json", is_flag=True, help="Write logs as JSON, one object a line.")
@click.pass_context
def serve(context: click.Context, config: Config, log_json: bool) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP re-reads the configuration and the certificates."""
    path: Path = context.meta["xiot.config"]

    def set_up(config: Config) -> None:
        set_up_logs(json=log_json, level=logging.getLevelNamesMapping()[config.log.level.upper()])

    set_up(config)
    sys.unraisablehook = log_unraisable
    try:
        server = Server(config, read=lambda: load(path))
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None
    server.on_reload = set_up
    trio.run(lambda: server.run(signals=True))


def set_up_logs(*, json: bool = False, level: int = logging.INFO) -> None:
    """Log to standard error: for people, or as JSON. What peers say cannot forge a line, nor reach the terminal as a command."""
    last: structlog.typing.Processor
    if json:
        last = structlog.processors.JSONRenderer()
    elif sys.stderr.isatty():
        last = structlog.dev.ConsoleRenderer(pad_event_to=0)
    else:
        last = line
    structlog.configure(
        processors=[
            stamp,
            structlog.processors.format_exc_info,
            escape_controls,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def log_unraisable(fault: sys.UnraisableHookArgs) -> None:
    """One line for what Python could raise to nobody, such as a server name in a ClientHello that is no text."""
    structlog.get_logger("xiot").warning("ignored", error=repr(fault.exc_value), where=fault.err_msg)


def stamp(_: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the level and the time, as structlog does by two processors."""
    event["level"] = "error" if level == "exception" else level
    event["timestamp"] = datetime.now(UTC).isoformat()[: -len("+00:00")] + "Z"
    return event


def escape_controls(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace what is not printable in values that may come from peers: no forged lines, no escape sequences, no bidi tricks.

    The lines of a traceback are all indented, since an exception may quote a peer.
    """
    for key, value in event.items():
        if type(value) in _PLAIN or (type(value) is str and value.isprintable()):
            continue
        lines = str(value).split("\n") if key == "exception" else [str(value)]
        event[key] = "\n  | ".join(map(printable, lines))
    return event


def line(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """One line, as structlog's ``ConsoleRenderer`` writes it without colours, in a tenth of the time: each login and logout has one."""
    trace, words = (
        event.pop("exception", None),
        [f"{event.pop('timestamp')} [{event.pop('level'):<9}] {event.pop('event')}"],
    )
    for key in sorted(event):
        value = event[key]
        words.append(f"{key}={value if type(value) is str and not _QUOTED.search(value) else repr(value)}")
    text = " ".join(words)
    return text if trace is None else f"{text}\n{trace}"


def printable(text: str) -> str:
    """`text` on one line, with what is not printable written as its code point."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
