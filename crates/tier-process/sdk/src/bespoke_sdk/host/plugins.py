"""The plugins of the host: found, loaded, called, swapped. Speaks Python; the lines of JSON stand in ``server``."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional

from bespoke_sdk import schema
from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.host.child import Child
from bespoke_sdk.host.environment import python_for
from bespoke_sdk.manifest import Manifest

__all__ = ["Plugins"]

CALL_SECONDS = 30.0
_HEALTH_SECONDS = 5.0
_DRAIN_SECONDS = 30.0
#: More ends than this within the time, and a plugin is left alone until it is loaded again.
_MOST_CRASHES, _CRASH_SECONDS = 3, 60.0
_log = logging.getLogger("launcher")


class _Slot:
    """A loaded plugin: its guest, and who is calling it."""

    def __init__(self, manifest: Manifest, config: Dict[str, Any], child: Child) -> None:
        self.manifest = manifest
        self.config = config
        self.child = child
        self.in_flight = 0
        self.crashes: Deque[float] = deque()
        #: Who took its place.
        self.replaced_by: Optional[_Slot] = None
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.reviving = asyncio.Lock()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[_Slot]:
        """The slot to call: this one, or whoever took its place while callers were held."""
        slot = self
        while True:
            await slot._open.wait()
            if slot.replaced_by is None:
                break
            slot = slot.replaced_by
        slot.in_flight += 1
        slot._idle.clear()
        try:
            yield slot
        finally:
            slot.in_flight -= 1
            if slot.in_flight == 0:
                slot._idle.set()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """New callers wait; those under way have had time to end."""
        self._open.clear()
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
            yield
        finally:
            self._open.set()


class _Turn:
    """Who changes a plugin just now, and how many wait to."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Plugins:
    """All plugins of a folder."""

    def __init__(self, folder: Path, config_folder: Path, install: bool, log_level: str) -> None:
        self._folder = folder
        self._config_folder = config_folder
        self._install = install
        self._log_level = log_level
        self._slots: Dict[str, _Slot] = {}
        #: One change of a plugin at a time; its callers wait for that.
        self._changing: Dict[str, _Turn] = {}

    # Finding.

    def found(self) -> List[Path]:
        """The folders with a manifest, the broken ones too.

        Raises ``DISCOVERY_FAILED``.
        """
        try:
            folders = sorted(p for p in self._folder.iterdir() if p.is_dir())
        except OSError as e:
            message = f"the folder of plugins cannot be read: {e}"
            raise PluginError(ErrorCodes.DISCOVERY_FAILED, message, help="name it with --plugins-dir") from None
        return [p for p in folders if (p / "manifest.json").is_file()]

    def list(self) -> List[Dict[str, Any]]:
        """A row a plugin."""
        rows = []
        for folder in self.found():
            row = {"name": folder.name, "version": None, "contract": None, "path": str(folder)}
            row.update(valid=True, loaded=folder.name in self._slots, errors=[])
            try:
                manifest = Manifest.read_json(folder / "manifest.json", strict=True)
                row.update(version=manifest.version, contract=manifest.contract)
            except PluginError as e:
                row.update(valid=False, errors=[e.message])
            rows.append(row)
        return rows

    def manifest(self, name: Any) -> Manifest:
        """The manifest of a plugin. The name is compared with the folders that there are, never made part of a path."""
        folder = next((p for p in self.found() if p.name == name), None) if isinstance(name, str) else None
        if folder is not None:
            return Manifest.read_json(folder / "manifest.json", strict=True)
        for path in self._folder.iterdir():
            if path.name == name and path.is_dir():
                raise PluginError(ErrorCodes.MANIFEST_MISSING, f"{path} has no manifest.json")
        known = ", ".join(p.name for p in self.found()) or "none"
        raise PluginError(ErrorCodes.PLUGIN_NOT_FOUND, f"there is no plugin {name!r}", help=f"plugins: {known}")

    @property
    def loaded(self) -> List[str]:
        """Names, in the order of loading."""
        return list(self._slots)

    # Changing.

    async def load(self, name: Any, config: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Loads a plugin. One that is loaded takes the new configuration.

        Raises ``ALREADY_LOADED`` when there is none to take; why it does not load.
        """
        async with self._change(name):
            slot = self._slots.get(name)
            if slot is not None:
                if config is None:
                    message = f"{name} is loaded already"
                    raise PluginError(ErrorCodes.ALREADY_LOADED, message, help="send a config to apply it, or unload it first")
                await self._reconfigure(slot, self._config(slot.manifest, config))
            else:
                manifest = self.manifest(name)
                whole = self._config(manifest, config)
                self._slots[name] = _Slot(manifest, whole, await self._start(manifest, whole))
            return await self._row(self._slots[name])

    async def unload(self, name: Any) -> Dict[str, Any]:
        """Ends a plugin, drained."""
        async with self._change(name):
            slot = self._slot(name)
            async with slot.held():
                del self._slots[name]
                await self._stop(slot)
            return {"success": True, "plugin": name}

    async def swap(self, old: Any, new: Any, config: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Starts ``new`` beside ``old``, drains ``old``, hands its state over, and lets ``new`` take its place.

        Raises ``HOTSWAP_FAILED`` when ``old`` goes on.
        """
        begun = time.monotonic()
        async with self._change(old, new):
            slot, manifest = self._slot(old), self.manifest(new)
            if manifest.contract != slot.manifest.contract:
                message = f"{new} is a {manifest.contract}, {old} is a {slot.manifest.contract}"
                raise PluginError(ErrorCodes.CONTRACT_MISMATCH, message)
            if new != old and new in self._slots:
                raise PluginError(ErrorCodes.ALREADY_LOADED, f"{new} is loaded already", help="unload it first")
            whole = self._config(manifest, config if config is not None or new != old else slot.config)
            fresh: Optional[Child] = None
            try:
                fresh = await self._start(manifest, whole)
                async with slot.held():
                    captured = await slot.child.capture(CALL_SECONDS) if slot.child.alive else None
                    if captured is not None:
                        await self._restore(fresh, captured)
                    successor = _Slot(manifest, whole, fresh)
                    self._slots = {new if n == old else n: successor if n == old else s for n, s in self._slots.items()}
                    slot.replaced_by = successor
            except PluginError as e:
                if fresh is not None:
                    await fresh.end()
                result = self._swapped(old, new, begun, [e.message])
                message = f"{old} goes on: {e.message}"
                raise PluginError(ErrorCodes.HOTSWAP_FAILED, message, data={**result, "code": e.code}) from None
            errors: List[str] = []
            try:
                await self._stop(slot)
            except PluginError as e:
                errors.append(e.message)
            return self._swapped(old, new, begun, errors, success=True)

    def _swapped(self, old: str, new: str, begun: float, errors: List[str], success: bool = False) -> Dict[str, Any]:
        took = round((time.monotonic() - begun) * 1000, 1)
        names = {"success": success, "old_plugin": old, "new_plugin": new}
        return {**names, "rollback_performed": not success, "errors": errors, "swap_duration_ms": took}

    async def _reconfigure(self, slot: _Slot, config: Dict[str, Any]) -> None:
        if slot.child.alive and await slot.child.call("plugin.reconfigure", config, CALL_SECONDS) == "applied":
            slot.config = config
            return
        fresh = await self._start(slot.manifest, config)
        async with slot.held():
            try:
                captured = await slot.child.capture(CALL_SECONDS) if slot.child.alive else None
                if captured is not None:
                    await self._restore(fresh, captured)
            except PluginError:
                await fresh.end()
                raise
            old, slot.child, slot.config = slot.child, fresh, config
        await self._end(old)

    async def _restore(self, fresh: Child, captured: Dict[str, Any]) -> None:
        try:
            await fresh.restore(captured, CALL_SECONDS)
        except PluginError as e:
            # A plugin that keeps no state does not mind that of the one before.
            if e.code != ErrorCodes.METHOD_NOT_FOUND:
                raise

    async def _start(self, manifest: Manifest, config: Dict[str, Any]) -> Child:
        python = await asyncio.get_running_loop().run_in_executor(None, python_for, manifest, self._install)
        return await Child.start(manifest.name, manifest.folder, python, config, self._log_level)

    async def _stop(self, slot: _Slot) -> None:
        await self._end(slot.child)

    async def _end(self, child: Child) -> None:
        try:
            if child.alive:
                await child.call("plugin.shutdown", {}, CALL_SECONDS, ErrorCodes.SHUTDOWN_FAILED)
        finally:
            await child.end()

    async def end(self) -> None:
        """Ends all plugins, the last one first."""
        for name in reversed(self.loaded):
            try:
                await self._stop(self._slots.pop(name))
            except PluginError as e:
                _log.error("%s: %s", name, e)

    def _config(self, manifest: Manifest, config: Any) -> Dict[str, Any]:
        """Defaults, then the file, then what was sent; held against the schema before the plugin sees it."""
        if config is not None and not isinstance(config, dict):
            raise PluginError(ErrorCodes.INVALID_PARAMS, "config is no object")
        whole = {**manifest.default_config, **self._config_file(manifest.name), **(config or {})}
        wrong = schema.problems(whole, manifest.config_schema) if manifest.config_schema else []
        if wrong:
            raise PluginError(ErrorCodes.INVALID_PARAMS, f"the config of {manifest.name}: {'; '.join(wrong)}", data={"problems": wrong})
        return whole

    def _config_file(self, name: str) -> Dict[str, Any]:
        path = self._config_folder / f"{name}.json"
        if not path.is_file():
            return {}
        try:
            read = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as e:
            raise PluginError(ErrorCodes.INVALID_PARAMS, f"{path}: {e}") from None
        if not isinstance(read, dict):
            raise PluginError(ErrorCodes.INVALID_PARAMS, f"{path} is no JSON object")
        return read

    # Calling.

    async def call(self, name: Any, method: Any, args: Any, seconds: float = CALL_SECONDS) -> Any:
        """A method of a plugin by name."""
        if not isinstance(method, str):
            raise PluginError(ErrorCodes.INVALID_PARAMS, "`method` is no text")
        return await self._invoke(name, method, args, seconds, ErrorCodes.EXECUTION_TIMEOUT)

    async def call_contract(self, contract: str, method: str, args: Dict[str, Any]) -> Any:
        """A method of the plugin of a contract that was loaded first."""
        async with self._settled():
            name = next((n for n, s in self._slots.items() if s.manifest.contract == contract), None)
        if name is None:
            raise PluginError(ErrorCodes.NOT_READY, f"no plugin of the contract `{contract}` is loaded", help="use plugin/load")
        return await self.call(name, method, args)

    async def health(self, name: Any) -> Dict[str, Any]:
        """What a plugin says of itself."""
        late = ErrorCodes.HEALTH_CHECK_TIMEOUT
        said = await self._invoke(name, "health_check", {}, _HEALTH_SECONDS, late)
        slot = self._slots.get(name)
        busy = slot is not None and slot.in_flight > 0 and said.get("status") == "ready"
        keys = ("status", "message", "details", "latency_ms", "memory_mb")
        return {"plugin": name, **{key: said.get(key) for key in keys}, **({"status": "busy"} if busy else {})}

    async def health_of_all(self) -> Dict[str, Any]:
        """The same of all; one that does not answer says so."""
        out = {}
        for name in self.loaded:
            try:
                out[name] = await self.health(name)
            except PluginError as e:
                out[name] = {"plugin": name, "status": "error", "message": e.message, "details": {"code": e.code}}
        return out

    async def _invoke(self, name: Any, method: str, args: Any, seconds: float, late: int) -> Any:
        async with self._settled(name):
            slot = self._slot(name)
        async with slot.calling() as there:
            await self._revive(there)
            try:
                return await there.child.call("plugin.invoke", {"method": method, "args": args}, seconds, late)
            except PluginError as e:
                e.plugin = there.manifest.name
                raise

    async def _revive(self, slot: _Slot) -> None:
        """A guest that has ended by itself is started again, but not for ever."""
        async with slot.reviving:
            if slot.child.alive:
                return
            now, name = time.monotonic(), slot.manifest.name
            while slot.crashes and now - slot.crashes[0] > _CRASH_SECONDS:
                slot.crashes.popleft()
            if len(slot.crashes) >= _MOST_CRASHES:
                message = f"{name} has ended {_MOST_CRASHES} times within {_CRASH_SECONDS:g} s and is left alone"
                raise PluginError(ErrorCodes.PLUGIN_CRASHED, message, help="see logs/plugins.log, then unload and load it")
            slot.crashes.append(now)
            _log.warning("%s has ended; starting it again", name)
            await slot.child.end()
            slot.child = await self._start(slot.manifest, slot.config)

    async def _row(self, slot: _Slot) -> Dict[str, Any]:
        manifest = slot.manifest
        row = {"name": manifest.name, "version": manifest.version, "contract": manifest.contract, "path": str(manifest.folder)}
        status = "error"
        with suppress(PluginError):
            status = (await slot.child.call("plugin.vitals", {}, _HEALTH_SECONDS))["facts"].get("status", status)
        row.update(initialized=True, status=status, load_errors=[])
        return {**row, **{key: manifest.raw.get(key, "") for key in ("display_name", "description")}}

    def _slot(self, name: Any) -> _Slot:
        slot = self._slots.get(name) if isinstance(name, str) else None
        if slot is None:
            self.manifest(name)
            raise PluginError(ErrorCodes.NOT_READY, f"{name} is not loaded", help="use plugin/load")
        return slot

    @asynccontextmanager
    async def _change(self, *names: Any) -> AsyncIterator[None]:
        """Keeps other changes of these plugins out."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(map(str, names))):
                turn = self._changing.setdefault(name, _Turn())
                turn.users += 1
                stack.callback(self._leave, name, turn)
                await stack.enter_async_context(turn.lock)
            yield

    def _leave(self, name: str, turn: _Turn) -> None:
        turn.users -= 1
        if turn.users == 0:
            del self._changing[name]

    @asynccontextmanager
    async def _settled(self, name: Any = None) -> AsyncIterator[None]:
        """Loading that was asked for before has ended: so that a call right behind a load finds the plugin."""
        names = [str(name)] if name is not None else list(self._changing)
        for each in names:
            turn = self._changing.get(each)
            # Callers of a plugin that is loaded do not wait for its change here: the slot holds them when it must.
            if turn is not None and each not in self._slots:
                async with turn.lock:
                    pass
        yield
