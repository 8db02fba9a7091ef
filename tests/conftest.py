# SPDX-License-Identifier: Apache-2.0
"""Properties have no deadline: on a busy machine, or under sanitizers, it is no fault to be slow."""

from hypothesis import HealthCheck, settings

settings.register_profile("xiot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xiot")
