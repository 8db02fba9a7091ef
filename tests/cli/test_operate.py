# SPDX-License-Identifier: Apache-2.0
"""``xiot status``, ``reload``, ``check``, ``init``, and ``user remove`` against a running server."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import msgspec
import pytest
import structlog
import trio
from click.testing import CliRunner, Result

import xiot
from tests.server.serving import HOST, Running, serving
from xiot.cli.init import TEMPLATE
from xiot.cli.main import main
from xiot.server import config as configuration
from xiot.server.config import Config, load


def run(*args: str | Path, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, list(map(str, args)), input=stdin)
    assert "Traceback" not in result.output
    return result


async def against(running: Running, *args: str) -> Result:
    return await trio.to_thread.run_sync(partial(run, *args, "--config", running.config))


# ---- status, reload, user remove ----


async def test_status_is_for_people_and_for_programs(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("juliet")
        async with running.connect("juliet"):
            people = await against(running, "status")
            programs = await against(running, "status", "--json")
        assert people.exit_code == 0
        assert f"host           {HOST}: 1 account online, certificate good for" in people.stdout
        assert re.search(r"connections +1, of them 1 session \(1 with TLS\)", people.stdout)
        assert running.address in people.stdout
        assert json.loads(programs.stdout)["pid"] == os.getpid()


async def test_reload_says_what_became_of_it(tmp_path: Path) -> None:
    with structlog.testing.capture_logs():  # the server's, which would go to the same standard output
        await reloads(tmp_path)


async def reloads(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        assert (await against(running, "reload")).stdout == "reloaded\n"
        text = running.config.read_text()
        running.config.write_text(text.replace("[limits]", "[limits]\nmax_depth = 20"))
        assert (await against(running, "reload")).stdout == "reloaded\nwaits for a restart: limits.max_depth\n"
        assert "limits.max_depth" in (await against(running, "status")).stdout
        running.config.write_text(text + '[tls]\ncertificate = "no.pem"\nprivate_key = "no.key"\n')
        result = await against(running, "reload")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: not reloaded, the former configuration stays in force: certificate of")
        assert "the last reload failed" in (await against(running, "status")).stdout


@pytest.mark.parametrize("command", ["status", "reload"])
def test_no_server_is_said_in_one_line(tmp_path: Path, command: str) -> None:
    path = tmp_path / "xiot.toml"
    path.write_text('data_dir = "."\n[[host]]\nname = "plant.example"\n')
    result = run(command, "--config", path)
    assert (result.exit_code, result.stderr) == (1, f"Error: no server runs with the data directory {tmp_path}\n")


async def test_removing_an_account_ends_its_sessions_and_its_subscriptions(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("juliet", "romeo")
        async with running.connect("romeo") as romeo, running.connect("juliet") as juliet:
            await romeo.publish("garden", xiot.reading(temperature=(20, "Cel")))
            async with juliet.subscribe("garden"):
                result = await against(running, "user", "remove", f"juliet@{HOST}")
                said = [
                    line for line in result.stdout.splitlines() if "[info" not in line
                ]  # the server logs there, too
                assert said == [f"removed juliet@{HOST}", "ended 1 session"]
                with pytest.raises(xiot.StreamError, match="not-authorized"), trio.fail_after(5):
                    async for _ in juliet.messages():
                        pass
            with trio.fail_after(5):
                while await running.server.store.run(
                    lambda tx: tx.nodes.subscription_count(f"pubsub.{HOST}", node="garden")
                ):
                    await trio.sleep(0.01)
            await romeo.ping()
        with pytest.raises(xiot.AuthError):
            async with running.connect("juliet"):
                pass


# ---- check ----


def test_check_names_every_problem_and_exits_by_it(tmp_path: Path) -> None:
    path = tmp_path / "xiot.toml"
    path.write_text('data_dir = "data"\n[[host]]\nname = "plant.example"\n[c2s]\nlisten = ["127.0.0.1:0"]\n')
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"ok       file: {path}"
    assert result.stdout.splitlines()[-1] == "0 problems, 1 warning"
    (tmp_path / "data").write_text("")
    result = run("check", "--config", path)
    assert result.exit_code == 1
    assert f"PROBLEM  data: {tmp_path / 'data'} is not a directory" in result.stdout
    path.write_text("[[host]]")
    result = run("check", "--config", path)
    assert (result.exit_code, result.stderr) == (78, f"Error: {path}: host[0].name: missing\n")


# ---- init ----


def test_init_writes_a_configuration_that_serves(tmp_path: Path) -> None:
    path = tmp_path / "new" / "xiot.toml"
    result = run("init", "Plant.Example", "--config", path, stdin="")
    assert result.exit_code == 0
    assert f"xiot serve --config {path}" in result.stdout
    config = load(path)
    assert (config.hosts[0].name, config.data_dir) == ("plant.example", tmp_path / "new" / "data")
    assert [str(address) for address in config.http.listen] == ["127.0.0.1:5281"]
    assert config.limits.account_bytes_per_s > 0
    assert path.stat().st_mode & 0o022 == 0


@pytest.mark.security(row=73)
def test_what_is_commented_out_is_the_default_and_nothing_is_left_out() -> None:
    """And there is no secret among it, so none to forget to change."""
    lines = [re.sub(r"^# (?=\[?[\w.]+\]?( = |$| +#))", "", line) for line in TEMPLATE.splitlines()]
    text = "\n".join(lines).format(host="a.example", path="", data_dir='"x"', listen='["127.0.0.1:1"]', listen_tls="[]")
    written = tomllib.loads(text)
    tables = {"": configuration.Config, "host": configuration.Host, "tls": configuration.Tls, "c2s": configuration.C2S}
    tables |= {"http": configuration.Http, "log": configuration.Log, "limits": configuration.Limits}
    tables |= {"accounts": configuration.Accounts, "exi": configuration.Exi}
    tables_of_config = {field.encode_name for field in msgspec.structs.fields(Config)}
    assert tables_of_config == set(tables) - {""} | {"data_dir"}
    given = {"name", "admins", "certificate", "private_key", "listen", "listen_tls", "data_dir"}
    given |= {"client_ca", "contact", "durable_accounts", "location"}
    given |= {
        name
        for name in msgspec.json.schema(configuration.Limits)["$defs"]["Limits"]["properties"]
        if name.startswith(("account_", "address_"))
    }
    for name, kind in tables.items():
        table = written[name] if name else written
        table = table[0] if name == "host" else table
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        assert table.keys() == fields.keys(), name
        for key, value in table.items():
            assert not re.search("password|secret|token(?!_days)", key)
            if name and key not in given:
                default = fields[key].default
                assert value == (list(default) if isinstance(default, tuple) else default), key


def test_init_replaces_nothing_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "xiot.toml"
    path.write_text("mine")
    result = run("init", "plant.example", "--config", path)
    assert (result.exit_code, result.stderr) == (1, f"Error: {path} exists already; --force replaces it\n")
    assert path.read_text() == "mine"
    assert run("init", "plant.example", "--local", "--force", "--config", path).exit_code == 0
    assert [address.host for address in load(path).c2s.listen] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("host", "message"), [("a@b", "not a host name"), ("", "is not a host name"), ("..", "is not a host name")]
)
def test_init_refuses_what_is_no_domain(tmp_path: Path, host: str, message: str) -> None:
    result = run("init", host, "--config", tmp_path / "x.toml")
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_init_asks_nothing_without_a_terminal(tmp_path: Path) -> None:
    result = run("init", "--config", tmp_path / "x.toml", stdin="plant.example\n")
    assert (result.exit_code, "HOST is missing" in result.stderr) == (2, True)


def test_init_asks_for_the_domain_at_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xiot.cli.main", "init", "--config", str(tmp_path / "x.toml")]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"]: " not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, b"plant.example\n")
        assert process.wait() == 0
    os.close(ours)
    assert load(tmp_path / "x.toml").hosts[0].name == "plant.example"
