# SPDX-License-Identifier: Apache-2.0
"""The unit of systemd in contrib/: it is understood, it is as tight as it says, and the server lives within its limits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_serve import COMMAND

UNIT = Path(__file__).parents[2] / "contrib" / "xiot.service"
MOST_EXPOSURE = 1.3
"""Of 10, as ``systemd-analyze security`` counts; what is left is mostly that a server is on the network."""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        assert not os.environ.get("XIOT_REQUIRE_PEERS"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout + done.stderr


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/xiot/bin/xiot", sys.executable))
    said = run(tool("systemd-analyze"), "verify", copy)
    version = int(re.findall(r"systemd (\d+)", run("systemd-analyze", "--version"))[0])
    lines = [line for line in said.splitlines() if "xiot.service" in line]
    if version < 253:  # which then goes by the line before
        assert all("Failed to parse service type, ignoring: notify-reload" in line for line in lines), said
        assert settings()["Type"] == ["notify", "notify-reload"]
    else:
        assert not lines, said


def test_it_is_exposed_as_little_as_said() -> None:
    said = run(tool("systemd-analyze"), "security", "--offline=true", UNIT)
    exposure = re.findall(r"Overall exposure level for xiot.service: ([0-9.]+)", said)
    assert exposure, said
    assert float(exposure[0]) <= MOST_EXPOSURE, said


def calls_of(groups: str, table: dict[str, set[str]]) -> set[str]:
    """The system calls of groups and names, such as "@system-service uname"."""
    found = set()
    for word in groups.split():
        found |= calls_of(" ".join(table[word]), table) if word.startswith("@") else {word}
    return found


def filtered() -> tuple[set[str], set[str]]:
    """All system calls that systemd knows of, and those that the unit allows."""
    table: dict[str, set[str]] = {}
    group = ""
    for line in run(tool("systemd-analyze"), "syscall-filter").splitlines():
        if line.startswith("@"):
            group = line.strip()
            table[group] = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            table[group].add(line.strip())
    allow, deny = settings()["SystemCallFilter"]
    return table["@known"], calls_of(allow, table) - calls_of(deny.removeprefix("~"), table)


MAIN = """
import ctypes
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) in (0, -1)  # PR_SET_MDWE: as MemoryDenyWriteExecute, where the kernel has it
from xiot.cli.main import main
main()
"""


def test_the_server_makes_no_system_call_that_the_unit_forbids(tmp_path: Path) -> None:
    """Started, asked, reloaded and stopped, without memory that is both written and executed."""
    known, allowed = filtered()
    assert len(allowed) > 100
    config, trace = tmp_path / "xiot.toml", tmp_path / "trace"
    config.write_text(
        'data_dir = "data"\n[[host]]\nname = "a.test"\n[c2s]\nlisten = ["127.0.0.1:0"]\n[http]\nlisten = ["127.0.0.1:0"]\n'
    )
    command = [
        tool("strace"),
        "-f",
        "-qq",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        MAIN,
        "serve",
        "--config",
        str(config),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "metrics at" in line:
                break
        add = [*COMMAND, "user", "add", "juliet@a.test", "--password-stdin", "--config", str(config)]
        subprocess.run(add, input="s3cret", text=True, check=True, capture_output=True)
        for verb in ("status", "reload"):
            assert (
                subprocess.run([*COMMAND, verb, "--config", str(config)], capture_output=True, check=False).returncode
                == 0
            )
        child = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0]
        os.kill(int(child), 15)
        assert "Traceback" not in server.stderr.read()
    used = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(), re.MULTILINE)) & known
    assert {"accept4", "epoll_wait", "fsync", "bind"} & used
    if os.geteuid() == 0:
        used.discard("fchown")  # SQLite gives its journal the database's owner, as root only
    assert used - allowed == set()
