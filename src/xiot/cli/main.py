# SPDX-License-Identifier: Apache-2.0
"""The command ``xiot``: finds the subcommand, and turns every failure into one line.

Exit codes: 0 done, 1 failed, 2 used wrongly, 130 ended by Ctrl-C, 78 the configuration cannot be used (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from xiot.errors import XiotError

if TYPE_CHECKING:
    from xiot.server.config import Config

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 128 + signal.SIGINT


class Entry(NamedTuple):
    """One subcommand: where it is, the extra of the package that it needs, and its line in ``xiot --help``."""

    target: str
    extra: str | None
    help: str


COMMANDS = {
    "bench": Entry("xiot.cli.bench:bench", None, "Measure the core on this machine, beside others."),
    "check": Entry("xiot.cli.check:check", "server", "Check a configuration: files, ports, certificates, DNS."),
    "demo": Entry("xiot.cli.demo:demo", "demo", "Show it working: a server, three things, and their readings."),
    "exi": Entry("xiot.cli.exi:exi", "exi", "Encode and decode EXI, compact XML; compile schemas."),
    "init": Entry("xiot.cli.init:init", "server", "Write a first configuration."),
    "read": Entry("xiot.cli.read:read", None, "Ask a thing for its values."),
    "reload": Entry("xiot.cli.operate:reload", "server", "Have the running server read its configuration anew."),
    "send": Entry("xiot.cli.talk:send", None, "Send a message."),
    "serve": Entry("xiot.cli.serve:serve", "server", "Run the server."),
    "set": Entry("xiot.cli.read:set_", None, "Set a parameter of a thing, or show what can be set."),
    "status": Entry("xiot.cli.operate:status", "server", "Show how the running server is."),
    "sub": Entry("xiot.cli.talk:sub", None, "Subscribe to a node and print what is published."),
    "user": Entry("xiot.cli.user:user", "server", "Add, change, remove and list accounts."),
}


class Commands(click.Group):
    """Imports a subcommand when it is used: ``xiot --help`` is fast, and works without the extras."""

    def __init__(self, **attributes: Any) -> None:
        names = {name: click.Command(name, help=entry.help) for name, entry in COMMANDS.items()}
        super().__init__(commands=names, **attributes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        ctx.meta["xiot.extra"] = entry.extra
        module, _, name = entry.target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in sorted(COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. Whatever it raises becomes one line, and the exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (Exception, BaseExceptionGroup) as error:
            if os.environ.get("XIOT_TRACEBACK"):
                raise
            raise _presentable(error, ctx.meta.get("xiot.extra")) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xiot")
def main() -> None:
    """XMPP for the Internet of Things: a server, a client, and tools."""


def config_option(command: F) -> F:
    """Add ``--config FILE`` to a command, which gets the `Config` that was read from it as `config`."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="XIOT_CONFIG",
        metavar="FILE",
        callback=_load,
        help="Configuration. Else XIOT_CONFIG, /etc/xiot/xiot.toml, $XDG_CONFIG_HOME/xiot/xiot.toml or ./xiot.toml.",
    )(command)


def _load(ctx: click.Context, _: click.Parameter, path: Path | None) -> Config | None:
    from xiot.server import config

    if ctx.resilient_parsing:
        return None
    path = path or config.find()
    ctx.meta["xiot.config"] = path
    return config.load(path)


def counted(number: int, noun: str) -> str:
    """Such as "1 session" or "2 sessions"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


def _presentable(error: BaseException, extra: str | None) -> BaseException:
    """Return what to raise in place of `error`, so that click prints one line, or nothing."""
    while isinstance(error, BaseExceptionGroup):  # a nursery's: the first failure made the others
        error = error.exceptions[0]
    # The text of an error that nobody expected may hold anything, a password too.
    message = f"internal error: {type(error).__name__}; XIOT_TRACEBACK=1 shows where"
    match error:
        case click.ClickException() | click.Abort() | click.exceptions.Exit() | BrokenPipeError():
            return error
        case KeyboardInterrupt():
            return click.exceptions.Exit(INTERRUPTED)
        case ModuleNotFoundError() if extra is not None and not (error.name or "").startswith(("xiot", "_xmppcore")):
            message = f"{error.name} is not installed; this command needs: pip install 'xiot[{extra}]'"
        case OSError() if error.strerror:
            message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        case XiotError():
            message = str(error)
    return _Failure(" ".join(message.split()), getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
