# SPDX-License-Identifier: Apache-2.0
"""The client: a logged-in stream with typed verbs, on anyio (tested under trio)."""

from xiot.client.client import Client, Item, Message, Presence, connect

__all__ = ["Client", "Item", "Message", "Presence", "connect"]
