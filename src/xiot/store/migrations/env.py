# SPDX-License-Identifier: Apache-2.0
"""Run by Alembic: migrate on the connection, and in the transaction, that `xiot.store.sqlite` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
