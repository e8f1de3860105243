"""A pytest fixture: `from slicerhost.fixture import host  # noqa: F401` in a conftest.py."""

import pytest


@pytest.fixture
def host():
    """The host of this process with an empty scene; fails the test for errors in callbacks that it left unread."""
    from slicerhost import start

    running = start()
    running.reset()
    yield running
    errors = list(running.errors)
    running.errors.clear()
    running.reset()
    assert not errors, "failed in a callback:\n" + "\n".join(errors)
