# SPDX-License-Identifier: Apache-2.0
"""Checks wheels.

python tests/wheels.py              which ones cibuildwheel would build: a mistyped pattern in pyproject.toml would silently build fewer
python tests/wheels.py WHEEL        what is in this one, what it needs of the system, and that it works in a fresh environment
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("cp311", "cp312", "cp313", "cp314")
WANTED = {
    "linux": {
        f"{python}-{libc}_{machine}"
        for python, libc, machine in itertools.product(
            PYTHONS, ("manylinux", "musllinux"), ("x86_64", "aarch64", "armv7l")
        )
    },
    "macos": {f"{python}-macosx_{machine}" for python, machine in itertools.product(PYTHONS, ("x86_64", "arm64"))},
    "windows": {f"{python}-win_amd64" for python in PYTHONS},
}
SHIPPED = (".py", ".pyi", ".pxd", ".typed", ".mako", ".xeg", ".xsd", ".txt", ".h")
"""What of src/ is in a wheel, beside the compiled modules."""
SMOKE = ("tests/core/test_xml.py", "tests/core/test_stanza.py", "tests/core/test_jid.py", "tests/core/test_router.py")


def identifiers() -> Iterator[str]:
    """How the identifiers of each platform differ from those wanted."""
    for platform, wanted in WANTED.items():
        command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
        got = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        for text, names in (("missing", wanted - got), ("unexpected", got - wanted)):
            if names:
                yield f"wheels for {platform}: {text}: {' '.join(sorted(names))}"


def contents(wheel: Path) -> Iterator[str]:
    """How the files in `wheel` differ from those of src/."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name and name[-1] != "/"}
    got = {name for name in names if not name.endswith((".so", ".pyd"))}
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in source.glob("*/**/*")
        if path.suffix in SHIPPED or path.name == "py.typed"
        if not path.parts[-2].endswith(".egg-info") and path.name != "make_jid_tables.py"
    }
    modules = {name.partition(".")[0] for name in names - got}
    compiled = {str(path.relative_to(source).with_suffix("")) for path in source.glob("_xmppcore/*.pyx")}
    if sys.platform != "linux":
        compiled.remove("_xmppcore/drain")
    for text, some in (
        ("missing", wanted - got),
        ("too much", got - wanted),
        ("not compiled", compiled - modules),
        ("compiled, without source", modules - compiled),
    ):
        if some:
            yield f"{wheel.name}: {text}: {' '.join(sorted(some))}"


def works(wheel: Path) -> Iterator[str]:
    """What fails of the command, without any extra, and of the core's tests, in a fresh environment."""
    with tempfile.TemporaryDirectory(prefix="xiot-wheel-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin/python"
        steps = {
            "install": [python, "-m", "pip", "install", "--quiet", wheel],
            "xiot --help": [Path(folder) / "bin/xiot", "--help"],
            "import": [
                python,
                "-I",
                "-c",
                "import xiot, xiot.core; xiot.connect; xiot.Thing; xiot.core.StreamParser()",
            ],
            "install its [test]": [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                f"xiot[test] @ {wheel.resolve().as_uri()}",
            ],
            "tests": [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not sanitizer", *SMOKE],
        }
        for name, command in steps.items():
            done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
            last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            if done.returncode:
                yield f"{wheel.name}: {name}: exit status {done.returncode}\n{last}"
                return
        print(f"{wheel.name}: {last.splitlines()[-1]}")


def system(wheel: Path) -> Iterator[str]:
    """What `wheel` needs of the system beyond what every Linux of some years has."""
    if "linux" not in wheel.name:
        return
    if "manylinux" not in wheel.name and "musllinux" not in wheel.name:
        yield f"{wheel.name}: for this machine only"
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=False
    )
    print(" ".join(done.stdout.split()))
    if done.returncode:
        yield f"{wheel.name}: auditwheel: {done.stderr}"


def main() -> int:
    """Print what is wrong; exit status 1 if anything is."""
    wheels = list(map(Path, sys.argv[1:]))
    found = (
        identifiers()
        if not wheels
        else itertools.chain.from_iterable(check(wheel) for wheel in wheels for check in (contents, system, works))
    )
    status = 0
    for text in found:
        print(text)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
