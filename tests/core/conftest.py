# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of the core import `shared` and `oracles` from the folder above."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
