# SPDX-License-Identifier: Apache-2.0
"""The compiled core under the name that users of xiot import: ``xiot.core``."""

from _xmppcore import *  # noqa: F403
from _xmppcore import __all__ as __all__
