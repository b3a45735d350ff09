"""From a folder to the class of its plugin. Makes no instance."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type

from bespoke_sdk.errors import ErrorCodes, PluginError, error_of, own_code
from bespoke_sdk.manifest import CONTRACTS, Manifest
from contracts.base import PluginBase

__all__ = ["Loaded", "kinds_of", "load"]


@dataclass
class Loaded:
    """A plugin that was imported."""

    manifest: Manifest
    plugin: Type[PluginBase]


def load(folder: Path) -> Loaded:
    """Imports the entry point and finds the class.

    Raises ``MANIFEST_*``, ``DEPENDENCY_MISSING``, ``CONTRACT_*`` or ``LOAD_FAILED``, with the reason.
    """
    folder = folder.resolve()
    own_code(folder)
    manifest = Manifest.find(folder)
    module = _import(manifest)
    plugin = _find_class(module, manifest)
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        message = f"{plugin.__name__} does not implement {', '.join(missing)}"
        raise PluginError(ErrorCodes.LOAD_FAILED, message, help="write these methods")
    _check_contract(plugin, manifest)
    return Loaded(manifest, plugin)


def kinds_of(plugin: Type[PluginBase]) -> List[Tuple[str, Type[PluginBase]]]:
    """The kinds of contributions whose contracts a class implements, with the contract."""
    return [(kind, contract) for kind, contract in _contracts().items() if issubclass(plugin, contract)]


def _contracts() -> Dict[str, Type[PluginBase]]:
    names = {
        "tts": ("tts_contract", "TTSContract"),
        "stt": ("stt_contract", "STTContract"),
        "provider": ("llm_contract", "LLMContract"),
        "tool": ("tool_contract", "ToolContract"),
        "channel": ("channel_contract", "ChannelContract"),
        "vad": ("vad_contract", "VADContract"),
        "embedder": ("embedder_contract", "EmbedderContract"),
        "command": ("command_contract", "CommandContract"),
        "hook": ("hook_contract", "HookContract"),
        "http": ("http_contract", "HttpEndpointContract"),
    }
    return {kind: getattr(importlib.import_module(f"contracts.{module}"), name) for kind, (module, name) in names.items()}


def _import(manifest: Manifest) -> types.ModuleType:
    folder = manifest.folder
    parts = manifest.entry_point.split(".")
    entry = folder.joinpath(*parts)
    if not entry.with_name(entry.name + ".py").is_file() and not (entry / "__init__.py").is_file():
        message = f"{manifest.path}: the entry point `{manifest.entry_point}` is not there: {entry}.py"
        raise PluginError(ErrorCodes.MANIFEST_INVALID, message)
    # Behind everything else: a plugin's `queue.py` must not stand before that of the library.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        sys.meta_path.append(_Finder(folder))
    name = _package_name(manifest.name, folder)
    try:
        package = _package(name, folder)
        if parts == ["__init__"]:
            return package
        return importlib.import_module(".".join([name, *parts]))
    except PluginError:
        raise
    except ModuleNotFoundError as e:
        raise PluginError(
            ErrorCodes.DEPENDENCY_MISSING,
            f"{manifest.name} needs the module `{e.name}`, which is not installed{_where(e)}",
            data={"module": e.name},
            help="add its package to requirements.txt and load with --auto-install-deps",
        ) from e
    except (Exception, SystemExit) as e:
        reason = error_of(e).message if isinstance(e, SystemExit) else e
        raise PluginError(ErrorCodes.LOAD_FAILED, f"importing {manifest.name} failed: {type(e).__name__}: {reason}{_where(e)}") from e


class _Finder(importlib.abc.MetaPathFinder):
    """A plugin's folder by the names that it has among others: ``plugins.my_plugin``, ``my_plugin``.

    The folders around it are not on ``sys.path``: they hold other plugins and what is none of this one's business, so that looking for
    any module there would be an attempt to read what was not granted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        around, own = self._folder.parent.name, self._folder.name
        if name == around:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = []
            return spec
        if name not in (own, f"{around}.{own}"):
            return None
        file = self._folder / "__init__.py"
        if file.is_file():
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(self._folder)])
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(self._folder)]
        return spec


def _package_name(plugin: str, folder: Path) -> str:
    """The plugin's name, as the guide imports it; another one where a module of this name is there already."""
    name = "".join(c if c.isalnum() else "_" for c in plugin)
    spec = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
    here = spec is None or spec.origin is None or Path(spec.origin).parent == folder
    return name if here and name not in sys.modules else f"bespoke_plugin_{name}"


def _package(name: str, folder: Path) -> types.ModuleType:
    """The folder as a package, so that relative imports work, with or without an ``__init__.py``."""
    file = folder / "__init__.py"
    if not file.is_file():
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
        return package
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise PluginError(ErrorCodes.LOAD_FAILED, f"{file} cannot be imported")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return package


def _find_class(module: types.ModuleType, manifest: Manifest) -> Type[PluginBase]:
    exported = getattr(module, "Plugin", None)
    if exported is not None:
        if inspect.isclass(exported) and issubclass(exported, PluginBase):
            return exported
        message = f"`Plugin` in {module.__file__} is no class of a contract"
        raise PluginError(ErrorCodes.CONTRACT_MISMATCH, message, help="extend a contract, such as contracts.tts_contract.TTSContract")
    package = module.__name__.partition(".")[0]
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, PluginBase) and value.__module__.partition(".")[0] == package
    ]
    # Of a class and its base both in the module, the class is meant.
    found = [c for c in dict.fromkeys(found) if not any(c is not other and issubclass(other, c) for other in found)]
    if len(found) == 1:
        return found[0]
    if not found:
        message = f"{manifest.name}: {module.__file__} defines no class that extends a contract"
        raise PluginError(ErrorCodes.CONTRACT_MISMATCH, message, help="extend a contract, such as contracts.tts_contract.TTSContract")
    message = f"{manifest.name}: {module.__file__} defines {', '.join(c.__name__ for c in found)}"
    raise PluginError(ErrorCodes.LOAD_FAILED, message, help="say which is the plugin: `Plugin = ThatClass`")


def _check_contract(plugin: Type[PluginBase], manifest: Manifest) -> None:
    kinds = [kind for kind, _ in kinds_of(plugin)]
    wanted = CONTRACTS.get(manifest.contract) if manifest.contract else None
    if wanted and wanted not in kinds:
        has = f"implements {', '.join(kinds)}" if kinds else "extends no contract of a kind"
        message = f"the manifest of {manifest.name} says contract `{manifest.contract}`, but {plugin.__name__} {has}"
        raise PluginError(ErrorCodes.CONTRACT_MISMATCH, message)


def _where(exc: BaseException) -> str:
    """File and line of the plugin where an import failed."""
    at: Optional[str] = None
    trace: Any = exc.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and "importlib" not in file and file != __file__:
            at = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return at or ""
