# SPDX-License-Identifier: Apache-2.0
"""Where a client keeps what logins taught it of each account's server, and the token for the next login.

Without it a server, or somebody in its place, could talk each login down: see `xiot.proto.known`.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xiot.core import JID
from xiot.proto.fast import Token
from xiot.proto.known import Known


class Memory:
    """Remembers as long as the process runs. Give the same one to several `connect`, one after the other.

    Two streams of one account at the same time want two: to the server they would be one client, and it ends the first.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def get(self, account: JID) -> Known:
        """Return what is known of a bare JID."""
        return self._known.get(str(account), Known())

    def put(self, account: JID, known: Known) -> None:
        """Remember it."""
        self._known[str(account)] = known

    def forget(self, account: JID) -> None:
        """Begin anew with an account, say because its server has really lost what it could do before."""
        self.put(account, Known())


class FileMemory(Memory):
    """Remembers in a file that only its owner can read: what is in it lets log in."""

    def __init__(self, path: str | Path) -> None:
        """Begin with what is in the file, if it is there. Raises OSError, ValueError (it holds something else)."""
        super().__init__()
        self._path = Path(path)
        self._lock = threading.Lock()
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        try:
            self._known = {str(account): _known(fields) for account, fields in json.loads(text)["accounts"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{path} is not what a FileMemory has written") from None

    def put(self, account: JID, known: Known) -> None:
        """Remember it, now and after a crash. Raises OSError."""
        with self._lock:
            super().put(account, known)
            text = json.dumps({"accounts": {name: asdict(each) for name, each in self._known.items()}}, indent=1)
            new = self._path.with_name(self._path.name + ".new")
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)


def _known(fields: dict[str, Any]) -> Known:
    token = fields["token"]
    return Known(**{**fields, "token": None if token is None else Token(**token)})
