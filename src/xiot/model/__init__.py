# SPDX-License-Identifier: Apache-2.0
"""Rules and plain data: what is true of rosters, nodes and readings, whatever the wire and the store are."""
