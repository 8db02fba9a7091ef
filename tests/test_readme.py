# SPDX-License-Identifier: Apache-2.0
"""The README says what is true."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import trio

from tests.server.serving import serving
from tests.shared import ROOT, shared
from xiot.ext import specification_table
from xiot.server import config
from xiot.xep import disco, standard

README = ROOT / "README.md"


def test_the_table_of_specifications_is_that_of_the_extensions() -> None:
    assert specification_table(standard()) in README.read_text(encoding="utf-8")


def test_the_sizes_are_those_of_the_script() -> None:
    spec = importlib.util.spec_from_file_location("sizes", ROOT / "benches/sizes.py")
    assert spec is not None
    assert spec.loader is not None
    sizes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sizes)
    printed = sizes.tables(shared("data/corpus"))
    assert "| EXI, the XEPs' schemas | 76 | 26 |" in printed
    said = README.read_text(encoding="utf-8")
    missing = [line for line in printed.splitlines() if line not in said and "deflate" not in line]  # zlibs differ
    assert missing == []


def test_the_configuration_shown_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    tomllib.loads(example)
    path = tmp_path / "xiot.toml"
    path.write_text(example, encoding="utf-8")
    assert config.load(path).hosts[0].name == "plant.example"


async def test_the_thing_shown_is_read_and_set_as_shown(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (served,) = [code for code in blocks if "xiot.Thing(" in code]
    (asked,) = [code for code in blocks if "me.things.read(" in code]
    valve: list[float] = []

    async def set_valve(value: float) -> None:
        valve.append(value)

    async with serving(tmp_path) as running:
        await running.account("boiler")

        def connect(jid: str, password: str) -> Any:
            return running.connect(jid.replace("plant.example", "localhost"))

        names: dict[str, Any] = {"read_sensor": lambda: 61.5, "set_valve": set_valve, "connect": connect}
        exec(served.replace("trio.run(main)", "").replace("xiot.connect", "connect"), names)
        async with trio.open_nursery() as nursery, running.connect("boiler@localhost/app") as me:
            nursery.start_soon(names["main"])
            with trio.fail_after(5):
                while not await disco.items(me):
                    await trio.sleep(0.01)
            code = asked.replace("plant.example", "localhost").replace("\n", "\n    ")
            exec(f"async def ask(me):\n    {code}\n    return reading", names)
            assert str((await names["ask"](me))["temperature"]) == "61.5 °C"
            assert valve == [60.5]
            nursery.cancel_scope.cancel()


def test_the_python_shown_compiles() -> None:
    for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        compile(
            code if "async def" in code else f"async def _():\n    {code.replace(chr(10), chr(10) + '    ')}",
            "README.md",
            "exec",
        )
