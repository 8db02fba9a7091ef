# SPDX-License-Identifier: Apache-2.0
"""The behaviour of things, without event loop and without XML; a client serves it."""
