"""The names that the guide imports from here."""

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["ErrorCodes", "PluginError"]
