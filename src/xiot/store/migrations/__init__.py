# SPDX-License-Identifier: Apache-2.0
"""Alembic's migrations, run by `xiot.store.sqlite` when it opens a database; revisions are numbers of four digits."""
