# SPDX-License-Identifier: Apache-2.0
"""Where the model's state is kept: on SQLite (`Store.open`), or in memory (`xiot.store.memory`).

Importing this loads no SQLAlchemy.
"""

from xiot.store.base import Store, StoreError, Transaction

__all__ = ["Store", "StoreError", "Transaction"]
