"""One arithmetic for all tests, pinned before torch is imported; properties are drawn the same on every run."""

from hypothesis import HealthCheck, settings

from captioning import compute

compute.pin(portable=True, threads=2)
settings.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
