# SPDX-License-Identifier: Apache-2.0
"""Figures on loopback, orders on a socket that only the owner may open."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from prometheus_client.parser import text_string_to_metric_families

from xiot.errors import StreamError, XiotError
from xiot.server import control, http
from xiot.server.config import load
from xiot.server.server import Server
from xiot.store import Store, StoreError

from .serving import HOST, Running, serving

HTTP = '1\n[http]\nlisten = ["127.0.0.1:0"]'


def with_http(folder: Path, **options: Any) -> Any:
    """`serving`, and figures on a port."""
    return serving(folder, connections_per_address=HTTP.replace("1", "50", 1), **options)


async def talk(running: Running, data: bytes) -> bytes:
    """All that comes back."""
    host, _, port = str(running.server.http_addresses[0]).rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(data)
        answer = b""
        with trio.fail_after(15):
            while more := await stream.receive_some():
                answer += more
    return answer


async def get(running: Running, path: str, method: str = "GET") -> tuple[int, str]:
    head, _, body = (await talk(running, f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())).partition(
        b"\r\n\r\n"
    )
    return int(head.split()[1]), body.decode()


async def ask(running: Running, method: str, path: str, body: object = None) -> tuple[int, Any]:
    return await trio.to_thread.run_sync(control.ask, running.server.config.data_dir, method, path, body)


def values(text: str) -> dict[str, float]:
    """Name/label/... -> value, as Prometheus reads it; labels in the order of their names."""
    return {
        "/".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_what_happened_and_name_nobody(tmp_path: Path) -> None:
    async with with_http(tmp_path, starttls="optional", plain=True) as running:
        await running.account("juliet", "romeo")
        async with running.connect("juliet") as juliet, running.connect("romeo", tls="off") as romeo:
            await romeo.send_message(juliet.jid, "hi")
            await anext(juliet.messages())
            with pytest.raises(XiotError):
                await romeo.ping("nobody@elsewhere.example")
            with pytest.raises(XiotError):
                async with running.connect("mallory"):
                    pass
            while len(running.server.sessions) > 2:  # a failed login is slow to end
                await trio.sleep(0.01)
            status, text = await get(running, "/metrics")
            assert status == 200
            seen = values(text)
            assert seen["xiot_connections"] == 2
            assert seen["xiot_c2s_sessions/xml/true/tcp"] == 1
            assert seen["xiot_c2s_sessions/xml/false/tcp"] == 1
            assert seen["xiot_connections_accepted_total"] == 3
            assert seen["xiot_stanzas_routed_total"] == running.server.router.routed == 1
            assert seen["xiot_stanzas_total/in/iq"] >= 1
            assert seen["xiot_auth_total/SCRAM-SHA-256-PLUS/success"] == 1
            assert seen["xiot_auth_total/SCRAM-SHA-256/not-authorized"] == 1
            assert seen["xiot_errors_total/remote-server-not-found/stanza"] == 1
            assert seen["xiot_tls_handshakes_total/success"] == 2
            assert seen["xiot_store_seconds_count/commit"] > 0
            assert seen["xiot_store_jobs_total"] >= seen["xiot_store_seconds_count/commit"]
            assert any(name.startswith("xiot_build_info/3.") for name in seen)
            assert any(name.startswith("xiot_tls_cert_expiry_timestamp_seconds/localhost") for name in seen)
            assert not re.search("juliet|romeo|mallory|127.0.0", text)
            before = seen["xiot_bytes_total/in/xml"]
            assert before > 1000
        while running.server.sessions:
            await trio.sleep(0.01)
        seen = values((await get(running, "/metrics"))[1])
        assert seen["xiot_connections"] == 0
        assert seen["xiot_bytes_total/in/xml"] >= before


async def test_health_is_the_loops_and_readiness_the_stores_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_http(tmp_path) as running:
        assert await get(running, "/healthz") == (200, "ok\n")
        assert await get(running, "/readyz") == (200, "ready\n")
        assert await get(running, "/healthz", "HEAD") == (200, "")

        async def broken(fn: object) -> None:
            raise StoreError("disk full")

        monkeypatch.setattr(running.server.store, "run", broken)
        assert await get(running, "/readyz") == (503, "disk full\n")
        assert (await get(running, "/healthz"))[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/status", "/reload", "/sessions/end", "/healthz/../status", "/%73tatus", "//status", "/status/", "/status?x"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.security(row=68)
async def test_no_order_and_no_name_by_the_port_for_figures(tmp_path: Path, path: str, method: str) -> None:
    """The listener that others reach has no such route, so there is no filter to get around."""
    async with with_http(tmp_path) as running:
        assert (await get(running, path, method))[0] == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 405),
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 20_000, 400),
        (b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n" + b"x" * 9000, 400),
        (b"GET /metrics HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    ],
)
async def test_bad_requests_are_refused(tmp_path: Path, request_: bytes, status: int) -> None:
    async with with_http(tmp_path) as running:
        answer = await talk(running, request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Traceback" not in answer


async def test_an_unfinished_request_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE_S", 0.2)
    async with with_http(tmp_path) as running:
        assert await talk(running, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_a_failing_route_is_a_500_and_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_http(tmp_path) as running:

        async def fail() -> bytes:
            raise RuntimeError("hunter2")

        with monkeypatch.context() as patch:
            patch.setattr(running.server.metrics, "text", fail)
            with structlog.testing.capture_logs() as logs:
                assert await get(running, "/metrics") == (500, "internal error\n")
            assert [entry["log_level"] for entry in logs] == ["error"]
        assert (await get(running, "/metrics"))[0] == 200


@pytest.mark.security(row=68)
async def test_the_control_socket_is_its_owners_and_tells_the_status(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("juliet")
        mode = (tmp_path / control.SOCKET).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        async with running.connect("juliet"):
            status, told = await ask(running, "GET", "/status")
        assert status == 200
        assert (told["pid"], told["sessions"], told["sessions_tls"], told["connections"]) == (os.getpid(), 1, 1, 1)
        assert [(host["name"], host["accounts_online"]) for host in told["hosts"]] == [(HOST, 1), ("anon.localhost", 0)]
        assert told["listen"][0] == {"address": running.address, "tls": "required"}
        assert told["configuration"]["error"] is None


async def test_a_reload_by_the_control_socket_says_what_became_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        text = running.config.read_text()
        running.config.write_text(text.replace('data_dir = "."', 'data_dir = "elsewhere"'))
        assert await ask(running, "POST", "/reload") == (200, {"waits_for_restart": ["data_dir"]})
        running.config.write_text(text + "\nbad")
        status, told = await ask(running, "POST", "/reload")
        assert status == 409
        assert str(running.config) in told["error"]
        _, told = await ask(running, "GET", "/status")
        assert told["configuration"]["waits_for_restart"] == ["data_dir"]
        assert str(running.config) in told["configuration"]["error"]


async def test_sessions_of_an_account_are_ended_by_the_control_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("juliet", "romeo")
        async with running.connect("juliet") as juliet, running.connect("romeo") as romeo:
            assert await ask(running, "POST", "/sessions/end", {"jid": f"juliet@{HOST}"}) == (200, {"sessions": 1})
            with pytest.raises(StreamError, match="not-authorized"), trio.fail_after(5):
                async for _ in juliet.messages():
                    pass
            await romeo.ping()
        for body in (None, {}, [], {"jid": "@"}, {"jid": 3}):
            status, told = await ask(running, "POST", "/sessions/end", body)
            assert (status, "juliet@example.org" in told) == (400, True)


async def test_two_servers_do_not_share_a_data_directory(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        second = Server(load(running.config))
        with pytest.RaisesGroup(pytest.RaisesExc(XiotError, match="another server"), flatten_subgroups=True):
            await second.run()
        await ask(running, "GET", "/status")


async def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / control.SOCKET))
    async with serving(tmp_path) as running:
        assert (await ask(running, "GET", "/healthz"))[1] == "ok"


async def test_a_long_path_to_the_data_directory_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with serving(folder) as running:
        assert (await ask(running, "GET", "/healthz"))[1] == "ok"


def test_no_server_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(control.NotRunning, match="no server runs"):
            control.ask(folder, "GET", "/status")


async def test_an_answer_that_is_not_ours_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / control.SOCKET))
        other.listen()
        asking = partial(control.ask, tmp_path, "GET", "/status")
        async with trio.open_nursery() as nursery:

            async def answer() -> None:
                sock = (await trio.to_thread.run_sync(other.accept))[0]
                sock.recv(4096)
                sock.send(b"SSH-2.0\r\n")
                sock.close()

            nursery.start_soon(answer)
            with pytest.raises(XiotError, match="BadStatusLine"):
                await trio.to_thread.run_sync(asking)


async def test_the_store_tells_of_each_commit(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    async with Store.open(tmp_path / "x.db", lambda jobs, seconds: seen.append((jobs, seconds))) as store:
        await store.run(lambda tx: None)
        assert store.queued == 0
    assert [jobs for jobs, _ in seen] == [1]
    assert 0 < seen[0][1] < 60


def test_status_is_json_that_others_can_read() -> None:
    answer = control._json({"a": 1})
    assert (answer.status, json.loads(answer.body)) == (200, {"a": 1})
