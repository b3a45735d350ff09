"""Plugins for Bespoke and App Factory in Python: the guest that serves one, and a host to try it with. No dependencies."""

from bespoke_sdk.call import Call, current_call
from bespoke_sdk.errors import ErrorCodes, PluginError

__version__ = "0.1.0"
__all__ = ["Call", "ErrorCodes", "PluginError", "__version__", "current_call"]
