# SPDX-License-Identifier: Apache-2.0
"""``xiot user``: accounts in the database, while a server may be using it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from xiot.cli.main import main
from xiot.core import JID
from xiot.server.accounts import Accounts
from xiot.server.config import load
from xiot.store import Store, Transaction

SECRET = "hunter2 correct horse"
JULIET = "juliet@plant.example"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "xiot.toml"
    path.write_text(
        'data_dir = "data"\n[[host]]\nname = "plant.example"\n[[host]]\nname = "b.example"\n'
        "[accounts]\nscram_iterations = 4096\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("XIOT_CONFIG", str(path))
    return path


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["user", *args], input=stdin)
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    return result


def add(jid: str) -> Result:
    return run("add", jid, "--password-stdin", stdin=f"{SECRET}\n")


def password_is(config: Path, jid: str, password: str) -> bool:
    async def check() -> bool:
        read = load(config)
        async with Store.open(read.database) as store:
            return await (await Accounts.open(store, read)).check_plain(JID(jid), password)

    return trio.run(check)


def test_added_account_can_log_in(config: Path) -> None:
    result = add(JULIET)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"added {JULIET}\n", "")
    assert password_is(config, JULIET, SECRET)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nsecond line"])
def test_password_is_the_first_line_of_standard_input(config: Path, ending: str) -> None:
    assert run("add", JULIET, "--password-stdin", stdin=f" {SECRET} {ending}").exit_code == 0
    assert password_is(config, JULIET, f" {SECRET} ")


def test_taken_name_is_refused(config: Path) -> None:
    add(JULIET)
    result = add("Juliet@plant.example")
    assert (result.exit_code, result.stderr) == (1, f"Error: {JULIET} exists already\n")


def test_changed_password_replaces_the_old_one(config: Path) -> None:
    add(JULIET)
    result = run("passwd", JULIET, "--password-stdin", stdin="new\n")
    assert (result.exit_code, result.stdout) == (0, f"changed the password of {JULIET}\n")
    assert password_is(config, JULIET, "new")
    assert not password_is(config, JULIET, SECRET)


def test_removed_account_is_gone(config: Path) -> None:
    add(JULIET)
    assert run("remove", JULIET).stdout == f"removed {JULIET}\n"
    result = run("remove", JULIET)
    assert (result.exit_code, result.stderr) == (1, f"Error: there is no account {JULIET}\n")
    assert run("passwd", JULIET, "--password-stdin", stdin="new\n").exit_code == 1


def test_accounts_are_listed_by_host(config: Path) -> None:
    for jid in ("b@b.example", JULIET, "a@plant.example"):
        add(jid)
    assert run("list").stdout.splitlines() == ["a@plant.example", JULIET, "b@b.example"]
    assert run("list", "B.example").stdout.splitlines() == ["b@b.example"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ["add", "juliet@other.example"],
            1,
            "other.example is not a host of this server; the configuration has: plant",
        ),
        (["list", "other.example"], 1, "other.example is not a host of this server"),
        (["list", "a@b"], 2, '"a@b" is not a host name but a JID'),
        (["add", "plant.example"], 2, "plant.example is not like juliet@example.org"),
        (["add", f"{JULIET}/balcony"], 2, f"{JULIET}/balcony is not like juliet@example.org"),
        (["add", "@plant.example"], 2, "Invalid value for 'JID'"),
        (["add"], 2, "Missing argument 'JID'"),
    ],
)
def test_wrong_use_is_explained(config: Path, args: list[str], code: int, message: str) -> None:
    result = run(*args, *(["--password-stdin"] if args[0] == "add" else []), stdin=f"{SECRET}\n")
    assert (result.exit_code, message in result.stderr) == (code, True)


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "the password is empty"),
        (b"\n", "the password is empty"),
        (b"a\0b\n", "RFC 8265"),
        (b"\xff\n", "the password is not UTF-8"),
        (b"x" * 5000, "the password is longer than 4096 bytes"),
    ],
)
def test_password_that_cannot_be_used_is_refused(config: Path, stdin: bytes, message: str) -> None:
    result = run("add", JULIET, "--password-stdin", stdin=stdin)
    assert (result.exit_code, message in result.stderr) == (1, True)
    assert run("list").stdout == ""


def test_database_that_cannot_be_opened_is_one_line(config: Path) -> None:
    (config.parent / "data").touch()
    result = run("list")
    assert (result.exit_code, result.stderr) == (1, f"Error: {config.parent / 'data'}: File exists\n")


def put_version(number: int, tx: Transaction) -> None:
    tx.roster.put_version("a@plant.example", number)


def test_account_can_be_added_while_a_server_writes(config: Path) -> None:
    async def serve() -> None:
        read = load(config)
        async with Store.open(read.database) as store, trio.open_nursery() as nursery:
            accounts = await Accounts.open(store, read)

            async def write() -> None:
                for number in range(1_000_000):
                    await store.run(partial(put_version, number))

            nursery.start_soon(write)
            result = await trio.to_thread.run_sync(partial(add, JULIET))
            assert (result.exit_code, result.stderr) == (0, "")
            assert await accounts.check_plain(JID(JULIET), SECRET)
            nursery.cancel_scope.cancel()

    trio.run(serve)


def test_prompt_shows_no_password_and_asks_twice(config: Path) -> None:
    """On a real terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from xiot.cli.main import main; main()", "user", "add", JULIET],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # so that it cannot ask at the terminal of whoever runs the tests
    )
    os.close(theirs)
    shown = b""
    for prompt, answer in ((b"Password", SECRET), (b"Repeat", "other"), (b"Password", SECRET), (b"Repeat", SECRET)):
        before = len(shown)
        while prompt not in shown[before:]:
            shown += os.read(ours, 1024)
        os.write(ours, f"{answer}\n".encode())
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while data := os.read(ours, 1024):
            shown += data
    os.close(ours)
    assert process.wait() == 0
    assert SECRET.encode() not in shown
    assert b"added juliet@plant.example" in shown
    assert password_is(config, JULIET, SECRET)
