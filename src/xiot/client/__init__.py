# SPDX-License-Identifier: Apache-2.0
"""The client: a logged-in stream with typed verbs, on anyio: under trio and under asyncio."""

from xiot.client.client import Client
from xiot.client.connecting import connect
from xiot.client.management import NotDurable
from xiot.client.memory import FileMemory, Memory
from xiot.client.outbox import Receipt
from xiot.client.received import Item, Message, Presence
from xiot.client.state import State

__all__ = ["Client", "FileMemory", "Item", "Memory", "Message", "NotDurable", "Presence", "Receipt", "State", "connect"]
