"""manifest.json of App Factory, and of plugin.toml the little that a guest needs. No import of the plugin happens here."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from bespoke_sdk.errors import ErrorCodes, PluginError

__all__ = ["CONTRACTS", "Manifest", "requirements"]

#: Words of manifests for the kinds of contributions; ``None`` where there is no kind: such a plugin is called by its methods.
CONTRACTS: Dict[str, Optional[str]] = {
    "tts": "tts",
    "stt": "stt",
    "llm": "provider",
    "provider": "provider",
    "tool": "tool",
    "channel": "channel",
    "vad": "vad",
    "embedder": "embedder",
    "embedding": "embedder",
    "command": "command",
    "hook": "hook",
    "http": "http",
    "mcp": None,
    "debug": None,
    "vision": None,
}

_REQUIRED = ("name", "version", "contract", "entry_point")
_TYPES: Dict[str, Any] = {
    **dict.fromkeys((*_REQUIRED, "display_name", "description", "author", "license", "repository", "homepage"), str),
    **dict.fromkeys(("python_requires", "icon"), str),
    **dict.fromkeys(("dependencies", "platforms", "capabilities", "tags", "screenshots"), list),
    **dict.fromkeys(("config_schema", "default_config"), dict),
    **dict.fromkeys(("gpu_required", "gpu_recommended"), bool),
    "min_memory_mb": (int, float),
}
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?\Z")
#: A package and the versions that fit, and nothing that pip takes for an option, a path or an address.
_REQUIREMENT = re.compile(r"""[A-Za-z0-9][A-Za-z0-9 .,_\-\[\]()<>=!~*+;'"]{0,255}\Z""")
#: Most characters of a requirements.txt.
_LONGEST = 64 << 10
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")


@dataclass
class Manifest:
    """What a manifest says."""

    path: Path
    name: str
    version: str
    #: The module to import, relative to the folder.
    entry_point: str
    #: The word of the manifest; ``None`` in plugin.toml, which lists contributions instead.
    contract: Optional[str] = None
    #: Kind and name of the contributions in plugin.toml.
    provides: List[Tuple[str, str]] = field(default_factory=list)
    dependencies: List[str] = field(default_factory=list)
    config_schema: Dict[str, Any] = field(default_factory=dict)
    default_config: Dict[str, Any] = field(default_factory=dict)
    #: All of it, as it was read.
    raw: Dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the plugin lies."""
        return self.path.parent

    @classmethod
    def find(cls, folder: Path) -> Manifest:
        """The manifest in a folder: plugin.toml, or else manifest.json. For a guest, whose host has read it in full.

        Raises ``MANIFEST_MISSING`` or ``MANIFEST_INVALID``.
        """
        if (folder / "plugin.toml").is_file():
            return cls.read_toml(folder / "plugin.toml")
        if (folder / "manifest.json").is_file():
            return cls.read_json(folder / "manifest.json")
        message = f"{folder} has neither manifest.json nor plugin.toml"
        raise PluginError(ErrorCodes.MANIFEST_MISSING, message, help="add a manifest.json with name, version, contract and entry_point")

    @classmethod
    def read_json(cls, path: Path, strict: bool = False) -> Manifest:
        """A manifest.json; all that is wrong is reported at once. ``strict`` also refuses keys that the guide does not have, and a
        name that differs from the folder's.
        """
        try:
            raw = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as e:
            raise _invalid(path, [str(e)]) from None
        if not isinstance(raw, dict):
            raise _invalid(path, ["is no JSON object"])
        wrong = [f"`{key}` is missing" for key in _REQUIRED if key not in raw]
        for key, value in raw.items():
            if key not in _TYPES:
                if strict:
                    close = difflib.get_close_matches(key, _TYPES, 1)
                    wrong.append(f"`{key}` is no key of a manifest" + (f"; did you mean `{close[0]}`?" if close else ""))
            elif not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and _TYPES[key] is not bool):
                wrong.append(f"`{key}` is of the wrong type")
        if wrong:
            raise _invalid(path, wrong)
        folder = path.parent.resolve().name
        if not _NAME.match(raw["name"]):
            wrong.append(f"the name `{raw['name']}` is not made of a-z, 0-9, _ and -, beginning with a letter")
        elif strict and raw["name"] != folder:
            wrong.append(f"the name `{raw['name']}` differs from the folder `{folder}`")
        if not _VERSION.match(raw["version"]):
            wrong.append(f'the version `{raw["version"]}` is not semantic, such as "1.0.0"')
        if not _MODULE.match(raw["entry_point"]):
            wrong.append(f"the entry point `{raw['entry_point']}` is no module path, such as `__init__` or `main`")
        if raw["contract"] not in CONTRACTS:
            raise PluginError(
                ErrorCodes.CONTRACT_NOT_FOUND,
                f"{path}: there is no contract `{raw['contract']}`",
                help=f"use one of {', '.join(CONTRACTS)}",
            )
        if not all(isinstance(d, str) for d in raw.get("dependencies", [])):
            wrong.append("`dependencies` holds something other than texts")
        if wrong:
            raise _invalid(path, wrong)
        return cls(
            path=path,
            name=raw["name"],
            version=raw["version"],
            entry_point=raw["entry_point"],
            contract=raw["contract"],
            dependencies=raw.get("dependencies", []),
            config_schema=raw.get("config_schema", {}),
            default_config=raw.get("default_config", {}),
            raw=raw,
        )

    @classmethod
    def read_toml(cls, path: Path) -> Manifest:
        """A plugin.toml with ``[process] python = "module"``. The host has checked the rest of it."""
        try:
            import tomllib as toml  # from Python 3.11
        except ImportError:
            try:
                import tomli as toml  # type: ignore[no-redef]
            except ImportError:
                raise PluginError(
                    ErrorCodes.DEPENDENCY_MISSING,
                    f"{path}: reading TOML takes Python 3.11, or the package tomli",
                    help="run the plugin with Python 3.11, add tomli to its requirements.txt, or write a manifest.json",
                ) from None
        try:
            raw = toml.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as e:
            raise _invalid(path, [str(e)]) from None
        process = raw.get("process", {})
        module = process.get("python") if isinstance(process, dict) else None
        if not isinstance(module, str) or not _MODULE.match(module):
            raise _invalid(path, ['`[process] python = "module"` is missing'])
        provides = [(p["kind"], p["name"]) for p in raw.get("provides", []) if "kind" in p and "name" in p]
        name, version = str(raw.get("id", path.parent.name)), str(raw.get("version", "0.0.0"))
        return cls(path=path, name=name, version=version, entry_point=module, provides=provides, raw=raw)


def requirements(manifest: Manifest) -> List[str]:
    """What pip has to find: the manifest's dependencies, and the lines of requirements.txt.

    Raises ``MANIFEST_INVALID`` for what is no package: options, paths and addresses would lead pip elsewhere than to the user's index.
    """
    out = list(manifest.dependencies)
    wrong = [f"`{text}` is no package" for text in out if not _REQUIREMENT.match(text)]
    if wrong:
        raise _invalid(manifest.path, wrong)
    listed = manifest.folder / "requirements.txt"
    if not listed.is_file():
        return out
    if manifest.folder.resolve() not in listed.resolve().parents:
        raise _invalid(listed, ["it leads out of the plugin's folder"])
    with listed.open(encoding="utf-8") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise _invalid(listed, ["it is too long"])
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if not _REQUIREMENT.match(line):
            raise PluginError(
                ErrorCodes.MANIFEST_INVALID,
                f"{listed}:{number}: it is no package",
                help="write its name and the versions that fit, such as numpy>=1.24; options, paths and addresses are not taken",
            )
        if line not in out:
            out.append(line)
    return out


def _invalid(path: Path, wrong: List[str]) -> PluginError:
    return PluginError(ErrorCodes.MANIFEST_INVALID, f"{path}: {'; '.join(wrong)}", data={"problems": wrong})
