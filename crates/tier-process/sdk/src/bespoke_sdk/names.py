"""Names that the guide's examples use without importing them. Entry points install them as builtins; nothing else does."""

import asyncio
import builtins
from collections.abc import AsyncIterator

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["install"]


def install() -> None:
    """Makes the names known in every module of this process that has none of its own by that name."""
    from contracts.base import HealthStatus, PluginBase, PluginStatus
    from contracts.llm_contract import LLMContract
    from contracts.stt_contract import STTContract
    from contracts.tts_contract import TTSContract

    known = (HealthStatus, PluginBase, PluginStatus, LLMContract, STTContract, TTSContract, ErrorCodes, PluginError, AsyncIterator)
    for item in known:
        if not hasattr(builtins, item.__name__):
            setattr(builtins, item.__name__, item)
    if not hasattr(builtins, "asyncio"):
        builtins.asyncio = asyncio  # type: ignore[attr-defined]
