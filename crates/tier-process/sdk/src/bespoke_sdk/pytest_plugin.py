"""For pytest, loaded by its entry point: makes the guide's test file pass as it stands.

Three things, none of which overrides a setting of the project: async fixtures and tests need no marks (``asyncio_mode = auto`` of
pytest-asyncio), ``plugins/`` of the project can be imported from, and the guide's names need no import.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from bespoke_sdk import names


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    """Runs before pytest-asyncio reads its mode."""
    names.install()
    has_asyncio = config.pluginmanager.hasplugin("asyncio")
    if has_asyncio and config.getoption("asyncio_mode", None) is None and "asyncio_mode" not in config.inicfg:
        config.option.asyncio_mode = "auto"
    plugins = config.rootpath / "plugins"
    if plugins.is_dir() and str(plugins) not in sys.path:
        sys.path.append(str(plugins))
