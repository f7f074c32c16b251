"""Which examples property tests draw: the same ones in `make test`, new ones in `make fuzz`.

Hypothesis draws one value in twenty from the constants of the modules that the process has loaded. The modules depend
on the tests that ran before, so `derandomize` alone does not repeat the examples. Here no such constants are used.
"""

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

_EXAMPLES = 100  # of a test that does not set its number, as in Hypothesis
_factor = 1


def load(fuzz: int | None) -> None:
    """Set Hypothesis up before any test module is imported; `fuzz`: new examples, and how many times as many."""
    global _factor
    _factor = fuzz or 1
    assert callable(providers._get_local_constants)  # renamed? test_properties.py shows whether examples still repeat
    providers._get_local_constants = Constants
    settings.register_profile(
        "project",
        derandomize=not fuzz,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=_EXAMPLES * _factor,
    )
    settings.load_profile("project")


def examples(count: int) -> settings:
    """A decorator: `make test` draws `count` examples for the property, `make fuzz` its multiple."""
    return settings(max_examples=count * _factor)
