"""Which examples property tests draw: the same ones in `make test`, new ones in `make fuzz`; hooks of pytest.

Hypothesis draws one value in twenty from the constants of the modules that the process has loaded. The modules depend
on the tests that ran before, so `derandomize` alone does not repeat the examples. Here no such constants are used.
"""

import shlex

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

_EXAMPLES = 100  # of a test that does not set its number, as in Hypothesis
_factor = 1


def examples(count: int) -> settings:
    """A decorator: `make test` draws `count` examples for the property, `make fuzz` several times as many."""
    return settings(max_examples=count * _factor)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, metavar="N", help="N times the examples, drawn anew by --hypothesis-seed")


def pytest_configure(config: pytest.Config) -> None:
    """Set Hypothesis up before any test module is imported."""
    global _factor
    fuzz = config.getoption("--fuzz")
    if fuzz and config.getoption("--hypothesis-seed") is None:
        raise pytest.UsageError("--fuzz needs --hypothesis-seed=NUMBER, so that its examples can be drawn again")
    _factor = fuzz or 1
    assert callable(providers._get_local_constants)  # no public name: test_properties.py shows that this one is right
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How to repeat what failed under --fuzz."""
    fuzz, seed = config.getoption("--fuzz"), config.getoption("--hypothesis-seed")
    for report in terminalreporter.getreports("failed") if fuzz else []:
        command = f"pytest --fuzz {fuzz} --hypothesis-seed {seed} {shlex.quote(report.nodeid)}"
        terminalreporter.write_line(f"To repeat the failure: {command}")
