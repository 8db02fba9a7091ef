# SPDX-License-Identifier: Apache-2.0
"""Run a client's program with the core in its library: LIBRARY PROGRAM ARGUMENTS."""

from __future__ import annotations

import importlib
import os
import runpy
import sys

library, program = sys.argv[1:3]
importlib.import_module(f"xiot.compat.{library}").install()
sys.argv[1:3] = []
sys.path[0] = os.path.dirname(program)
runpy.run_path(program, run_name="__main__")
