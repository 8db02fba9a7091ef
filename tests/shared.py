# SPDX-License-Identifier: Apache-2.0
"""What a test needs from outside: reference data, programs, a C compiler; and what happens if it is not there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src/_xmppcore/c"
PARSER = ["xml", "xml_names", "xml_text", "scan"]
"""C files of the parser."""


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if XIOT_REQUIRE_PEERS is 1: then all that tests need has to be there."""
    if os.environ.get("XIOT_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def shared(name: str) -> Path:
    """The file or folder `name` of XIOT_SHARED, or of the folder `shared` beside this repository."""
    path = Path(os.environ.get("XIOT_SHARED") or ROOT.parent / "shared") / name
    return path if path.exists() else missing(f"no {path} (set XIOT_SHARED)")


def program(name: str) -> str:
    """The path of an installed program."""
    return shutil.which(name) or missing(f"{name} is not installed (Debian package {name})")


def package(name: str) -> None:
    """Require an installed Python package."""
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed (Python package {name})")


def compiler() -> str:
    """The path of gcc or clang, if the sources of the core are here too."""
    if not CORE.exists():
        missing(f"no sources in {CORE}")
    return shutil.which("gcc") or shutil.which("clang") or missing("neither gcc nor clang is installed")


def fuzz_target(name: str, core: Iterable[str], folder: Path, *libraries: str) -> Path:
    """tests/fuzz/fuzz_`name`.c, built into `folder` with sanitizers, the C files `core` and `libraries`, to run on files."""
    built = folder / f"fuzz_{name}"
    flags = ["-O1", "-g", "-std=gnu11", "-DSTANDALONE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    files = [ROOT / f"tests/fuzz/fuzz_{name}.c", *(CORE / f"{file}.c" for file in core)]
    command = [compiler(), *flags, f"-I{CORE}", *files, *libraries, "-o", built]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr and "san" in done.stderr:
        missing("the compiler has no sanitizers")
    if "expat.h" in done.stderr:
        missing("no expat.h (Debian package libexpat1-dev)")
    assert done.returncode == 0, done.stderr
    return built
