# SPDX-License-Identifier: Apache-2.0
"""The command as a whole: help, exit codes, and failures in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from xiot.cli import main as cli
from xiot.cli.main import COMMANDS, Entry, main
from xiot.errors import LinkError, XiotError

SECRET = "hunter2"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_command_of_the_table_exists_and_has_help() -> None:
    for name, entry in COMMANDS.items():
        module, _, function = entry.target.partition(":")
        assert isinstance(getattr(import_module(module), function), click.Command)
        result = run(name, "--help")
        assert (result.exit_code, result.stderr) == (0, "")
        assert name in run("--help").stdout


def test_help_loads_no_command() -> None:
    code = """
import sys
from click.testing import CliRunner
from xiot.cli.main import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print(sorted({"trio", "msgspec", "sqlalchemy", "rich", "_xmppcore"} & sys.modules.keys()))
"""
    assert python(code) == "[]\n"


@pytest.mark.parametrize("module", ["msgspec", "sqlalchemy", "alembic"])
def test_missing_extra_is_named(module: str, tmp_path: Path) -> None:
    config = tmp_path / "xiot.toml"
    config.write_text('data_dir = "."\n[[host]]\nname = "plant.example"\n')
    code = f"""
import sys
sys.modules[{module!r}] = None  # as if it were not installed
from click.testing import CliRunner
from xiot.cli.main import main
result = CliRunner().invoke(main, ["user", "list", "--config", {str(config)!r}])
print(result.exit_code, result.stderr)
"""
    assert (
        python(code).rstrip() == f"1 Error: {module} is not installed; this command needs: pip install 'xiot[server]'"
    )


def test_unknown_command_is_a_usage_error() -> None:
    result = run("usr")
    assert result.exit_code == 2
    assert "No such command 'usr'" in result.stderr


def test_missing_configuration_is_exit_code_78(tmp_path: Path) -> None:
    result = run("user", "list", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 78
    assert result.stderr == f"Error: {tmp_path / 'none.toml'}: No such file or directory\n"


@click.command()
def failing() -> None:
    """Raise what the test has set."""
    raise failure


failure: BaseException


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (XiotError("two\nlines"), 1, "Error: two lines"),
        (LinkError("gone"), 1, "Error: gone"),
        (OSError(98, "Address already in use"), 1, "Error: Address already in use"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "Error: x: No such file or directory"),
        (click.ClickException("plain"), 1, "Error: plain"),
        (ExceptionGroup("", [ExceptionGroup("", [LinkError("gone")])]), 1, "Error: gone"),
        (ValueError(SECRET), 1, "Error: internal error: ValueError; XIOT_TRACEBACK=1 shows where"),
        (click.Abort(), 1, "Aborted!"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failure_is_one_line(error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    global failure
    failure = error
    monkeypatch.setitem(COMMANDS, "fail", Entry(f"{__name__}:failing", None, "Fail."))
    result = run("fail")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (code, "", line)


def test_traceback_is_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    global failure
    failure = ValueError("where")
    monkeypatch.setenv("XIOT_TRACEBACK", "1")
    monkeypatch.setitem(COMMANDS, "fail", Entry(f"{__name__}:failing", None, "Fail."))
    assert run("fail").exception is failure


def test_exit_code_of_the_process_is_the_commands(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"from {cli.__name__} import main; main()", "user", "list", "--config", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == f"Error: {tmp_path}: Is a directory\n"
