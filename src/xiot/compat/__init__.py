# SPDX-License-Identifier: Apache-2.0
"""The core in other XMPP libraries: one module a library, each with `install()`. None needs more of xiot than the core."""
