# SPDX-License-Identifier: Apache-2.0
"""A process that has imported all of ``xiot serve``, and forks one that runs it for each line: FILE LOG, separated by a tab.

It writes the number of the new process. Half of the time that a test of many kills takes would otherwise be Python's start.
"""

from __future__ import annotations

import os
import signal
import sys

import structlog

import xiot.cli.serve
import xiot.server.server
import xiot.store.sqlite
from xiot.cli.main import main


def serve(config: str, log: str) -> None:
    """Be ``xiot serve --config CONFIG``, with standard error in the file `log`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    os.dup2(2, 1)
    main(["serve", "--config", config])


if __name__ == "__main__":
    assert xiot.cli.serve
    assert xiot.server.server
    assert xiot.store.sqlite
    assert structlog
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are nobody's to wait for
    for line in sys.stdin:
        child = os.fork()
        if not child:
            serve(*line.rstrip("\n").split("\t"))
            os._exit(0)
        os.write(1, f"{child}\n".encode())
