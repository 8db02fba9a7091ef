# SPDX-License-Identifier: Apache-2.0
"""The README says what is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from xiot.ext import specification_table
from xiot.server import config
from xiot.xep import standard

README = Path(__file__).parent.parent / "README.md"


def test_the_table_of_specifications_is_that_of_the_extensions() -> None:
    assert specification_table(standard()) in README.read_text(encoding="utf-8")


def test_the_configuration_shown_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    tomllib.loads(example)
    path = tmp_path / "xiot.toml"
    path.write_text(example, encoding="utf-8")
    assert config.load(path).hosts[0].name == "plant.example"


def test_the_python_shown_compiles() -> None:
    for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        compile(
            code if "async def" in code else f"async def _():\n    {code.replace(chr(10), chr(10) + '    ')}",
            "README.md",
            "exec",
        )
