# SPDX-License-Identifier: Apache-2.0
"""Checks which wheels would be built: a mistyped pattern in pyproject.toml would silently build fewer."""

import itertools
import subprocess
import sys

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


def main() -> int:
    """Compare the identifiers of each platform; exit status 1 if they differ."""
    status = 0
    for platform, wanted in WANTED.items():
        command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
        got = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        for text, names in (("missing", wanted - got), ("unexpected", got - wanted)):
            if names:
                print(f"wheels for {platform}: {text}: {' '.join(sorted(names))}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
