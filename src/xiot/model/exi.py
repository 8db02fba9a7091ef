# SPDX-License-Identifier: Apache-2.0
"""What is remembered of EXI (XEP-0322): setups that clients have agreed on, so that their ids survive a restart, and schemas of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MOST_SETUPS = 64
"""Each is a set of schemas to be compiled, and tables of up to 100 KiB in memory."""


@dataclass(frozen=True, slots=True)
class AgreedSetup:
    """A setup, under the configuration id that it was given."""

    id: str
    request: str
    """The ``<setup/>`` that proposed it, as XML."""
    within_exi: bool
    """Proposed on a stream in EXI, whose default options and schemas count."""
    used: datetime
    """When it was last agreed on, with time zone."""


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """A schema file of a client's."""

    namespace: str
    size: int
    """Of `data`, in octets."""
    md5: str
    """In hexadecimal."""
    data: bytes
    used: datetime
    """When it was last uploaded or downloaded."""


class ExiStore(Protocol):
    """Setups and schemas of all clients."""

    def setups(self) -> Sequence[AgreedSetup]:
        """Return all setups, that used last first."""

    def put_setup(self, setup: AgreedSetup) -> None:
        """Store a setup, replacing that of the same id."""

    def delete_setup(self, id: str) -> None:
        """Forget a setup; no error if there is none."""

    def schemas(self) -> Sequence[StoredSchema]:
        """Return all schemas, that used last first."""

    def put_schema(self, schema: StoredSchema) -> None:
        """Store a schema, replacing that of the same namespace, size and MD5."""

    def delete_schema(self, namespace: str, size: int, md5: str) -> None:
        """Forget a schema; no error if there is none."""


def remember_setup(store: ExiStore, setup: AgreedSetup) -> None:
    """Store `setup`; of too many those go that were not used for longest."""
    store.put_setup(setup)
    for old in store.setups()[MOST_SETUPS:]:
        store.delete_setup(old.id)


def remember_schema(store: ExiStore, schema: StoredSchema, most_bytes: int) -> list[StoredSchema]:
    """Store `schema`; while all have more than `most_bytes`, those go that were not used for longest. Returns what is left."""
    store.put_schema(schema)
    left: list[StoredSchema] = []
    for old in store.schemas():
        most_bytes -= old.size
        if most_bytes < 0 and left:
            store.delete_schema(old.namespace, old.size, old.md5)
        else:
            left.append(old)
    return left
