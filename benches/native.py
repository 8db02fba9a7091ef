# SPDX-License-Identifier: Apache-2.0
"""Builds what is measured in C: sources of this folder with those of the core, by the compiler and the flags of setup.py."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CORE = HERE.parent / "src" / "_xmppcore" / "c"
BUILD = HERE.parent / "build" / "bench"
PARSER = ("xml", "xml_names", "xml_text", "scan")
ROUTER = (*PARSER, "router", "outbuf", "sm", "jid")
EXI = ("scan", *sorted(path.stem for path in CORE.glob("exi_*.c")))


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("clang")


def compile(name: str, ours: Sequence[str], core: Sequence[str], *flags: str) -> Path | str:
    """The file `name` made of `ours` and of the core's `core`, anew if any source is younger; or, as a str, why there is none."""
    cc = compiler()
    if cc is None:
        return "no C compiler"
    target = BUILD / name
    sources = [*(HERE / f"{each}.c" for each in ours), *(CORE / f"{each}.c" for each in core)]
    newest = max(path.stat().st_mtime for path in [*sources, *CORE.glob("*.h")])
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        command = [cc, "-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-fno-plt", f"-I{CORE}"]
        if "gcc" in cc and platform.machine() == "x86_64":
            inline = "unrolled_loop:256:noalign,libcall:-1:noalign"
            command += [f"-mmemset-strategy={inline}", f"-mmemcpy-strategy={inline}"]
        built = subprocess.run(
            [*command, *map(str, sources), "-o", str(target), *flags], capture_output=True, text=True
        )
        if built.returncode:
            return "no expat.h (Debian package libexpat1-dev)" if "expat.h" in built.stderr else built.stderr
    return target
