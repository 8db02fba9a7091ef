# SPDX-License-Identifier: Apache-2.0
"""How a client in a process of its own hears from the test, and tells it what happens: JSON lines on stdin and stdout.

The clients import it from beside them: they know nothing of xiot.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any


def say(event: str, **fields: Any) -> None:
    """Tell the test what happened."""
    print(json.dumps({"event": event, **fields}), flush=True)


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What the test wants done, until it closes stdin."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        yield json.loads(line)
