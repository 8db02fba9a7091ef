# SPDX-License-Identifier: Apache-2.0
"""The client: a logged-in stream with typed verbs, on anyio: under trio and under asyncio."""

from xiot.client.client import Client, Item, Message, Presence, State, connect
from xiot.client.memory import FileMemory, Memory

__all__ = ["Client", "FileMemory", "Item", "Memory", "Message", "Presence", "State", "connect"]
