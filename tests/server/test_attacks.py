# SPDX-License-Identifier: Apache-2.0
"""Every attack ends as it must, over TCP and inside TLS, and the server serves on as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import trio

from tests.defences import BUILD, STRUCTURES, outcomes, report, table

from .attacks import ATTACKS, Attack, Peer, Site, carry_out, under_attack
from .serving import Running, serving


async def honest_login(running: Running) -> None:
    """A login by SCRAM over STARTTLS, and a round trip."""
    with trio.fail_after(5):
        async with running.connect("honest") as client:
            await client.ping()


@pytest.mark.parametrize("attack", [pytest.param(a, id=a.name) for a in ATTACKS])
async def test_attack_is_held_off(attack: Attack, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with under_attack(attack, tmp_path) as running:
            async with trio.open_nursery() as nursery:
                for transport in attack.transports:
                    nursery.start_soon(carry_out, attack, running, transport)
            await honest_login(running)
    faults = [entry for entry in logs if entry.get("exc_info") or entry["log_level"] in ("error", "critical")]
    assert not faults


@pytest.mark.security(row=(3, 30))
async def test_clear_text_on_the_port_of_tls_is_closed_without_a_word_of_xml(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        site = Site(running, "tls", 5)
        peer = Peer(await site.socket(), 5)
        await peer.ending(b"<?xml version='1.0'?><stream:stream>")
        assert b"stream" not in peer.received
        await site.aclose()


async def test_each_defence_is_needed() -> None:
    with structlog.testing.capture_logs():
        found = await outcomes(attack for attack in ATTACKS if attack.switch.kind != "bit")
    report("defences.txt", table([*found, *STRUCTURES]))
    assert not [outcome.attack.name for outcome in found if outcome.failure is None]


@pytest.mark.skipif(os.environ.get("XIOT_SOAK") != "1", reason="builds the core with its sanitizers (XIOT_SOAK=1)")
def test_each_defence_of_the_core_is_needed() -> None:
    root = BUILD.parent
    environ = os.environ | {"XIOT_DEBUG": "1"}
    build = ["setup.py", "-q", "build", "--build-base", "build/debug", "--build-lib", "build/debug/lib"]
    subprocess.run([sys.executable, *build], cwd=root, env=environ, check=True)
    asan = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environ |= {"LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": f"{BUILD}/debug/lib:{root}"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.defences"], cwd=root, env=environ, capture_output=True, text=True
    )
    report("defences-core.txt", run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
