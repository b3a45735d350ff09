"""Runs a plugin's methods: async ones on the loop, sync ones on threads, so that one that blocks holds nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Optional, Set

from bespoke_sdk.call import Call, current_call
from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["Work", "accepted", "collect", "on_thread", "pieces", "run", "working"]

#: Sync methods that run at a time; more wait.
_THREADS = 64
_END = object()
_threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="plugin")


class Work:
    """Code of the plugin that runs on a thread, also when its call is over."""

    def __init__(self, call: Optional[Call]) -> None:
        self.call = call
        self.thread = threading.get_ident()


#: All that runs now. Whoever looks copies it first.
working: Set[Work] = set()


async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a method, sync or async. ``sys.exit`` becomes an error."""
    try:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            value = function(*args, **kwargs)
        else:
            value = await on_thread(functools.partial(function, *args, **kwargs))
        return await value if inspect.isawaitable(value) else value
    except SystemExit as e:
        raise _exited(e) from e


async def on_thread(function: Callable[[], Any]) -> Any:
    """Runs a function on a thread, in the context of this task."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(_quietly, context.run, function))


async def pieces(value: Any) -> AsyncIterator[Any]:
    """The items of what a method returned: an async iterator, a sync one (read on a thread), or a single value."""
    if hasattr(value, "__aiter__"):
        try:
            async for item in value:
                yield item
        except SystemExit as e:
            raise _exited(e) from e
        finally:
            if hasattr(value, "aclose"):
                await value.aclose()
    elif inspect.isgenerator(value):
        while True:
            item = await on_thread(functools.partial(next, value, _END))
            if item is _END:
                return
            yield item
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield item
    elif value is not None:
        yield value


async def collect(value: Any) -> Any:
    """A generator's items as a list; anything else as it is."""
    if hasattr(value, "__aiter__") or inspect.isgenerator(value):
        return [item async for item in pieces(value)]
    return value


def accepted(function: Callable[..., Any], offered: Dict[str, Any]) -> Dict[str, Any]:
    """Of some keyword arguments those that a method has a parameter for, without those that are ``None``."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}
    return {name: value for name, value in offered.items() if value is not None and (takes_all or name in names)}


def _quietly(run_in: Callable[..., Any], function: Callable[[], Any]) -> Any:
    """An exception that a future cannot carry becomes one that it can."""
    work = Work(run_in(current_call))
    working.add(work)
    try:
        return run_in(function)
    except StopIteration as e:
        raise RuntimeError("the method raised StopIteration") from e
    except SystemExit as e:
        raise _exited(e) from e
    finally:
        working.discard(work)


def _exited(e: SystemExit) -> PluginError:
    return PluginError(ErrorCodes.PLUGIN_EXCEPTION, f"the plugin called sys.exit({e.code!r}); it goes on running")
