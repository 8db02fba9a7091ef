# SPDX-License-Identifier: Apache-2.0
"""How many instructions the core takes for a stanza, a delivery, a JID: counted by callgrind, so the same on a busy machine as on an idle one.

    python benches/counts.py [WORD ...]            compare with counts.json; exit status 1 if a count has grown by more than 3 %
    python benches/counts.py --rebase              write counts.json: with the change that is worth it, in the same commit

Counts depend on what compiled, on the C library and on the kernel chosen: with others than those of counts.json nothing is compared, and
what would be written is printed. Needs valgrind and a C compiler.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

import bench_jid
import bench_router
import native
from _xmppcore import StreamParser, exi, scan
from xiot.cli import corpora

KEPT = Path(__file__).with_name("counts.json")
MOST_PERCENT = 3.0
STREAM_BYTES = 500_000


class CountError(Exception):
    """Nothing could be counted."""


def stream(kind: str) -> Callable[[], bytes]:
    return lambda: corpora.make(kind, STREAM_BYTES).data


def routed(kind: str) -> Callable[[], bytes]:
    """What a client sends to the JIDs of `addresses`."""
    return lambda: b"".join(bench_router.corpus(kind)[0])


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def addresses() -> bytes:
    return lines([bench_router.address(i) for i in range(bench_router.DESTINATIONS)])


def documents() -> bytes:
    """Stanzas that stand alone, a NUL behind each."""
    events = StreamParser().feed(corpora.make("iot", STREAM_BYTES // 5).data)[1:-1]
    return b"".join(event.raw.replace(b" ", b" xmlns='jabber:client' ", 1) + b"\0" for event in events)


@dataclass(frozen=True)
class Work:
    """One count: the mode of counts.c, or of exi.c, and what it reads."""

    mode: str
    inputs: tuple[Callable[[], bytes], ...]
    exi: bool = False


WORKS = {
    **{f"parse {kind}": Work("parse", (stream(kind),)) for kind in ("chat", "iot", "unicode", "large", "tiny")},
    **{f"route {kind}": Work("route", (routed(kind), addresses)) for kind in ("chat", "iot")},
    "fan-out": Work("fan-out", (addresses,)),
    "JID": Work("prepare", (lambda: lines(bench_jid.ASCII),)),
    "JID, to be lower-cased": Work("prepare", (lambda: lines(bench_jid.UNPREPARED),)),
    "JID beyond ASCII": Work("prepare", (lambda: lines(bench_jid.NON_ASCII),)),
    **{f"EXI {mode}": Work(mode, (documents,), exi=True) for mode in ("encode", "decode", "peek")},
}


def harness(*, exi: bool) -> Path:
    if exi:
        built = native.compile("exi", ["exi"], native.EXI, "-DSTANDALONE", "-O3")
    else:
        built = native.compile("counts", ["counts", "scan"], native.ROUTER, "-lexpat")
    if isinstance(built, str):
        raise CountError(built)
    return built


def first_line(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.partition("\n")[0]
    except FileNotFoundError:
        raise CountError(f"{command[0]} is not installed (Debian package {command[0]})") from None


def count(name: str, folder: Path) -> float:
    """Instructions for each of what `name` counts."""
    work = WORKS[name]
    stem = name.replace(" ", "-").replace(",", "")
    files = []
    for i, make in enumerate(work.inputs):
        files.append(folder / f"{stem}.{i}")
        files[-1].write_bytes(make())
    command = [str(harness(exi=work.exi)), work.mode, *map(str, files)]
    if work.exi:
        tables = folder / f"{stem}.xeg"
        tables.write_bytes(exi.xmpp_schemas().tables())
        command = [command[0], str(tables), *map(str, files), work.mode, "1"]
    counted = f"exi_{work.mode}" if work.exi else "measured"
    out = folder / f"{stem}.callgrind"
    tool = ["valgrind", "--tool=callgrind", f"--toggle-collect={counted}", f"--callgrind-out-file={out}"]
    ran = subprocess.run([*tool, *command], capture_output=True, text=True)
    if ran.returncode:
        raise CountError(f"{name}: {ran.stderr}")
    done = int(ran.stdout.split()[0])
    if counted == "exi_encode":
        done *= 2  # it encodes once to have what it decodes
    total = re.search(r"^summary: (\d+)", out.read_text(), re.MULTILINE)
    assert total is not None, out.read_text()[:1000]
    return round(int(total[1]) / done, 1)


@cache
def inputs_hash() -> str:
    digest = hashlib.sha256()
    for work in WORKS.values():
        for make in work.inputs:
            digest.update(make())
    return digest.hexdigest()[:16]


def measure(names: list[str]) -> dict[str, Any]:
    """What counts.json holds, with the counts of `names` only."""
    compiler = native.compiler()
    if compiler is None:
        raise CountError("no C compiler")
    toolchain = {
        "compiler": first_line(compiler, "--version"),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "valgrind": first_line("valgrind", "--version"),
    }
    for exi_too in {WORKS[name].exi for name in names}:
        harness(exi=exi_too)
    with tempfile.TemporaryDirectory(prefix="xiot-counts-") as folder, ThreadPoolExecutor(2) as pool:
        counted = list(pool.map(lambda name: count(name, Path(folder)), names))
    return {
        "toolchain": toolchain | {"kernel": scan.default()},
        "python": platform.python_version(),
        "inputs": inputs_hash(),
        "instructions": dict(zip(names, counted, strict=True)),
    }


def report(found: dict[str, Any], kept: dict[str, Any] | None) -> bool:
    """Print the counts beside those kept; True if, with the same toolchain, one has grown too much or has nothing to be compared with."""
    same = kept is not None and kept["toolchain"] == found["toolchain"]
    failed = same and kept["inputs"] != found["inputs"]
    if failed:
        print("What is counted has other inputs than it had: --rebase, in a commit of its own.")
    print(f"{'instructions for each':30} {'kept':>10} {'now':>10} {'change':>8}")
    for name, now in found["instructions"].items():
        before = kept["instructions"].get(name) if kept else None
        if before is None:
            print(f"{name:30} {'-':>10} {now:10,.1f}")
            failed |= same
            continue
        change = 100 * (now / before - 1)
        grown = same and change > MOST_PERCENT
        failed |= grown
        note = (
            f"  grown by more than {MOST_PERCENT:g} %"
            if grown
            else "  keep it: --rebase"
            if change < -MOST_PERCENT
            else ""
        )
        print(f"{name:30} {before:10,.1f} {now:10,.1f} {change:+7.1f}%{note if same else ''}")
    if kept and not same:
        print("Not compared: another toolchain than that of the counts kept. --rebase takes this one.")
        for key in sorted(kept["toolchain"].keys() | found["toolchain"].keys()):
            old, new = kept["toolchain"].get(key), found["toolchain"].get(key)
            if old != new:
                print(f"  {key}: kept {old}, here {new}")
    return failed


@click.command()
@click.option("--rebase", is_flag=True, help="Write the file anew.")
@click.option("--file", "path", type=click.Path(path_type=Path), default=KEPT, help="Default: counts.json, here.")
@click.argument("words", nargs=-1)
def main(rebase: bool, path: Path, words: tuple[str, ...]) -> None:
    """Count instructions, and compare; with WORDs, only what has one of them in its name."""
    names = [name for name in WORKS if not words or any(word in name for word in words)]
    if not names or (rebase and words):
        raise click.UsageError("no such count" if not names else "--rebase takes all counts")
    try:
        found = measure(names)
    except CountError as error:
        raise click.ClickException(str(error)) from None
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    failed = report(found, kept)
    if rebase:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name} written")
    elif kept is None:
        raise click.ClickException(f"no {path}: --rebase writes it")
    elif failed:
        print("If the change is worth it: --rebase, in the same commit.")
        sys.exit(1)


if __name__ == "__main__":
    main()
