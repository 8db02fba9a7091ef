# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, on a socket of our own in its place."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import trio

from xiot.server.notify import Notifier

from .test_serve import serve


def listener(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(10)
    return sock


@pytest.mark.parametrize("abstract", [False, True])
def test_states_are_sent_to_the_socket_of_the_environment(tmp_path: Path, abstract: bool) -> None:
    name = f"xiot-test-{os.getpid()}" if abstract else str(tmp_path / "n")
    with listener(f"\0{name}" if abstract else name) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        notifier.ready()
        before = time.monotonic_ns()
        notifier.reloading()
        after = time.monotonic_ns()
        notifier.stopping()
        assert manager.recv(99) == b"READY=1"
        state, _, since = manager.recv(99).decode().partition("\nMONOTONIC_USEC=")
        assert state == "RELOADING=1"
        assert before // 1000 <= int(since) <= after // 1000
        assert manager.recv(99) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    Notifier(environ).ready()


async def test_the_watchdog_is_for_the_process_that_it_names(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "20000"}
    with listener(environ["NOTIFY_SOCKET"]) as manager:
        with trio.move_on_after(0.1):
            await Notifier({**environ, "WATCHDOG_PID": str(os.getpid())}).watchdog()
        assert manager.recv(99) == manager.recv(99) == b"WATCHDOG=1"
    with trio.fail_after(5):
        await Notifier({**environ, "WATCHDOG_PID": "1"}).watchdog()
        await Notifier({**environ, "WATCHDOG_USEC": "0"}).watchdog()


async def test_start_reload_and_end_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(str(tmp_path / "n")) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000000")
        async with serve(tmp_path) as running:

            def told() -> str:
                state = manager.recv(99).decode().split("\n")[0]
                return told() if state == "WATCHDOG=1" else state

            assert await trio.to_thread.run_sync(told) == "READY=1"
            config = tmp_path / "xiot.toml"
            good = config.read_text()
            for text, logged in ((good + "\nbad", "configuration not reloaded"), (good, "configuration reloaded")):
                config.write_text(text)
                running.process.send_signal(signal.SIGHUP)
                assert await trio.to_thread.run_sync(told) == "RELOADING=1"
                assert await trio.to_thread.run_sync(told) == "READY=1"
                await running.logged(logged)
            config.write_text(good + '\n[log]\nlevel = "error"')
            running.process.send_signal(signal.SIGHUP)
            assert await trio.to_thread.run_sync(told) == "RELOADING=1"
            assert await trio.to_thread.run_sync(told) == "READY=1"
            running.process.terminate()
            assert await trio.to_thread.run_sync(told) == "STOPPING=1"
            await running.process.wait()
        assert running.log.count("configuration reloaded") == 1  # the other is below the new level
        assert "stopped" not in running.log
