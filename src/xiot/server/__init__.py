# SPDX-License-Identifier: Apache-2.0
"""The server: configuration, accounts, hosts, sessions and what wires the extensions to them."""
