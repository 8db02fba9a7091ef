# SPDX-License-Identifier: Apache-2.0
"""The load generator counts what it must, against relays of known behaviour and against a real server."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.shared import missing, program

LOAD = Path(__file__).resolve().parents[2] / "benches" / "load"


def _load_harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load_harness", LOAD / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["load_harness"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


harness = _load_harness()

Rewrite = Callable[[int, bytes], tuple[list[bytes], list[bytes]]]
"""A numbered message -> what goes on to its receiver, what goes back to its sender."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def tools(cache: Path) -> Any:
    program("cc")
    return harness.build(cache)


@pytest.fixture(scope="module")
def relay(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    kind = harness.KINDS["relay"]
    place = harness.make_place(kind, tmp_path_factory.mktemp("relay"), tools)
    with harness.running(kind, place) as server:
        yield server


@pytest.fixture(scope="module", params=["prosody", "xiot"])
def server(request: pytest.FixtureRequest, tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    kind = harness.KINDS[request.param]
    if (reason := kind.missing()) is not None:
        missing(reason)
    place = harness.make_place(kind, tmp_path_factory.mktemp(kind.name), tools)
    with harness.running(kind, place) as server:
        harness.register(tools, server, 8)
        yield server


def clean(result: dict[str, Any]) -> bool:
    """Nothing was lost or went wrong."""
    names = ("lost", "doubled", "reordered", "errors", "shed", "disconnects", "failed_logins")
    return not any(result[name] for name in names)


def run_through(tools: Any, rewrite: Rewrite, *arguments: str) -> dict[str, Any]:
    """The result of one pair whose messages pass through `rewrite`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_relay_one_pair, args=(listener, rewrite))
        thread.start()
        port = listener.getsockname()[1]
        common = ["--raw", "--port", str(port), "--count", "1", "--warmup", "0", "--seconds", "0.3", "--drain", "0.3"]
        result: dict[str, Any] = harness.generate(tools, "chat", *common, *arguments)
        thread.join(timeout=10)
        assert not thread.is_alive()
    return result


def _relay_one_pair(listener: socket.socket, rewrite: Rewrite) -> None:
    with listener.accept()[0] as sender, listener.accept()[0] as receiver:
        pending = b""
        while data := sender.recv(65536):
            pending += data
            *whole, pending = re.split(rb"(?<=</message>)", pending)
            for message in whole:
                number = re.search(rb"id='n(\d{10})'", message)
                assert number is not None
                onward, back = rewrite(int(number[1]), message)
                receiver.sendall(b"".join(onward))
                sender.sendall(b"".join(back))


def test_all_messages_through_relay_arrive_once_and_in_order(tools: Any, relay: Any) -> None:
    result = harness.measure(tools, relay, harness.Case.parse("chat/4/w16"), seconds=0.3, warmup_s=0.05)
    assert result["done"] > 1000
    assert clean(result)
    assert result["sent_bytes"] == result["received_bytes"] == 152
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"] <= result["latency_us"]["max"]


def test_open_loop_keeps_its_rate(tools: Any, relay: Any) -> None:
    result = harness.measure(tools, relay, harness.Case.parse("chat/5/1000ps"), seconds=0.5, warmup_s=0.1)
    assert clean(result)
    assert result["done"] == pytest.approx(500, rel=0.3)


@pytest.mark.parametrize("case", ["login/4/scram-sha-1", "login/4/direct/scram-sha-1"])
def test_the_door_logs_everybody_in(tools: Any, tmp_path: Path, case: str) -> None:
    parsed, kind = harness.Case.parse(case), harness.KINDS["door"]
    if not parsed.suits(kind, tools):
        pytest.skip("no headers of OpenSSL")
    with harness.running(kind, harness.make_place(kind, tmp_path, tools)) as server:
        result = harness.measure(tools, server, parsed, seconds=0.3, warmup_s=0.05)
    assert result["done"] > 20
    assert clean(result)


def test_the_door_refuses_another_password(tools: Any, tmp_path: Path) -> None:
    kind = harness.KINDS["door"]
    with harness.running(kind, harness.make_place(kind, tmp_path, tools)) as server:
        command = ["idle", "--port", str(server.place.port), "--count", "1", "--sasl", "scram-sha-1"]
        with pytest.raises(harness.LoadError, match="closed by the server"):
            harness.generate(tools, *command, "--password", "another", "--seconds", "0", "--setup", "5")


def test_lost_doubled_reordered_and_refused_messages_are_counted(tools: Any) -> None:
    held: list[bytes] = []

    def rewrite(number: int, message: bytes) -> tuple[list[bytes], list[bytes]]:
        match number:
            case 7:
                return [], []
            case 12:
                return [message, message], []
            case 20:
                held.append(message)
                return [], []
            case 21:
                return [message, held.pop()], []
            case 30:
                return [], [b"<message id='n0000000030' type='error'><error type='cancel'/></message>"]
        return [message], []

    result = run_through(tools, rewrite, "--window", "8")
    assert (result["lost"], result["doubled"], result["reordered"], result["errors"]) == (1, 1, 1, 1)
    assert result["first_error"] == "a stanza came back as an error"


def test_messages_are_found_whatever_the_server_makes_of_their_bytes(tools: Any) -> None:
    def rewrite(number: int, message: bytes) -> tuple[list[bytes], list[bytes]]:
        changed = (
            f'\n<message type="chat" xml:lang="en" id="n{number:010}" note=\'a > b "c"\' from="a@b/c"><body>x</body>'
            f"<stanza-id xmlns='urn:xmpp:sid:0' id='n{number * 7919 % 10**10:010}' by='b'/><x><y/></x ></message>"
            f"<presence from='someone@b' id='n{number:010}x'/>"
        )
        return [changed.encode()], []

    result = run_through(tools, rewrite, "--window", "3")
    assert result["done"] > 50
    assert clean(result)


def test_a_server_that_takes_nothing_is_shed_load_not_given_memory(tools: Any) -> None:
    result = run_through(tools, lambda number, message: ([], []), "--rate", "50000")
    assert result["shed"] > 0
    assert result["lost"] == 4096


def test_cpu_of_child_processes_counts_as_the_servers(tools: Any, tmp_path: Path) -> None:
    def in_a_shell(place: Any) -> list[str]:
        return ["sh", "-c", f"'{tools.relay}' {place.port}; true"]

    kind = replace(harness.KINDS["relay"], command=in_a_shell)
    with harness.running(kind, harness.make_place(kind, tmp_path, tools)) as server:
        result = harness.measure(tools, server, harness.Case.parse("chat/2/w1"), seconds=0.2)
    assert result["server"]["processes"] == 2
    assert 0.001 < result["server"]["cpu_s"] < 0.4
    assert result["server"]["rss_kib"] > 500


def test_only_loopback_is_a_target(tools: Any) -> None:
    with pytest.raises(harness.LoadError, match="loopback"):
        harness.generate(tools, "chat", "--host", "192.0.2.1", "--port", "5222")


def test_generator_builds_without_tls(tmp_path: Path) -> None:
    target = tmp_path / "loadgen"
    harness._compile(target, harness.GENERATOR_SOURCES, ("-DNO_TLS", "-Werror"))
    done = subprocess.run([target, "idle", "--port", "1", "--tls", "direct"], capture_output=True, text=True)
    assert (done.returncode, "TLS is not built in" in done.stderr) == (2, True)


def test_runner_writes_medians_of_all_rounds_and_keeps_other_cases(cache: Path, tools: Any, tmp_path: Path) -> None:
    target = tmp_path / "results.json"

    def run(case: str, rounds: int) -> list[dict[str, Any]]:
        options = ["--cache", str(cache), "--server", "relay", "--case", case, "--seconds", "0.1", "--add"]
        command = [sys.executable, str(LOAD / "run.py"), *options, "--rounds", str(rounds), "--json", str(target)]
        subprocess.run(command, check=True, capture_output=True)
        rows: list[dict[str, Any]] = json.loads(target.read_text())["rows"]
        return rows

    run("chat/2/w4", 1)
    run("chat/10/w64", 1)
    other, row = run("chat/2/w4", 3)
    assert other["case"] == "chat/10/w64"
    assert (row["server"], row["case"], row["wrong"], len(row["runs"])) == ("relay", "chat/2/w4", 0, 3)
    assert row["per_s"] == sorted(run["per_s"] for run in row["runs"])[1]


@pytest.mark.peers
@pytest.mark.parametrize(
    "case",
    [
        "chat/4/w1/scram-sha-1",
        "chat/4/w16/starttls/plain",
        "chat/4/w4/direct/scram-sha-1",
        "chat/4/200ps",
        "ping/4/w4",
        "ping/2/w1/anonymous",
        "login/8/scram-sha-1",
        "chat/4/w4/sm",
        "presence/7/w4",
    ],
)
def test_real_server_answers_every_stanza(tools: Any, server: Any, case: str) -> None:
    parsed = harness.Case.parse(case)
    if not parsed.suits(server.kind, tools):
        missing("the generator was built without TLS: no OpenSSL headers")
    result = harness.measure(tools, server, parsed, seconds=0.4, warmup_s=0.1)
    assert result["done"] > 10
    assert clean(result), result["first_error"]
    assert result["server"]["cpu_s"] > 0


@pytest.mark.peers
def test_idle_connections_stay_online(tools: Any, server: Any) -> None:
    result = harness.measure(tools, server, harness.Case.parse("idle/20/anonymous"), seconds=0.2)
    assert result["setup"]["logins"] == 20
    assert clean(result), result["first_error"]


@pytest.fixture(scope="module")
def ours(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Our server with 200 accounts; it does not run."""
    kind = harness.KINDS["xiot"]
    place = harness.make_place(kind, tmp_path_factory.mktemp("ours"), tools)
    with harness.running(kind, place) as server:
        harness.register(tools, server, 200)
    return kind, place


@pytest.mark.peers
def test_all_of_a_login_storm_get_in_and_who_is_in_is_still_answered(tools: Any, ours: tuple[Any, Any]) -> None:
    case = harness.Case.parse("storm/100/" + ("direct/scram-sha-1" if tools.tls else "scram-sha-1"))
    result = harness.measure_alone(tools, *ours, case, seconds=0)
    assert result["done"] == 100
    assert clean(result), result["first_error"]
    # One at a time, the ping would wait for them all: it is to wait for a few steps of theirs.
    assert 0 < result["latency_us"]["p50"] < result["seconds"] * 1e6 / 20


@pytest.mark.peers
def test_all_come_back_to_a_server_that_was_killed(tools: Any, ours: tuple[Any, Any]) -> None:
    result = harness.measure_alone(tools, *ours, harness.Case.parse("return/100/scram-sha-1"), seconds=0)
    assert result["done"] == 100
    assert clean(result), result["first_error"]


@pytest.mark.peers
@pytest.mark.parametrize(("case", "kib"), [("idle/200/scram-sha-1", 5), ("idle/200/direct/scram-sha-1", 23)])
def test_an_idle_connection_costs_little_memory(tools: Any, ours: tuple[Any, Any], case: str, kib: float) -> None:
    parsed = harness.Case.parse(case)
    if not parsed.suits(ours[0], tools):
        missing("the generator was built without TLS: no OpenSSL headers")
    result = harness.measure_alone(tools, *ours, parsed, seconds=0)
    grown = result["server"]["rss_ready_kib"] - result["server"]["rss_fresh_kib"]
    assert grown / 200 < kib * 1.25  # a few pools grow in steps


@pytest.mark.peers
def test_wrong_password_is_reported(tools: Any, server: Any) -> None:
    with pytest.raises(harness.LoadError, match=r"authentication refused.*not-authorized"):
        harness.generate(tools, "idle", "--port", str(server.place.port), "--count", "1", "--password", "wrong")
