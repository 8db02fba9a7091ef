# SPDX-License-Identifier: Apache-2.0
"""Sockets and TLS: the server's pump and listeners (trio), the client's dialling (anyio)."""
