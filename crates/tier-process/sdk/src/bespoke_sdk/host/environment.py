"""Which Python a plugin runs with. Dependencies are installed only when asked, into ``.venv`` in the plugin's folder."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.manifest import Manifest, requirements

__all__ = ["python_for"]

_STAMP = "bespoke-requirements"
_INSTALL_SECONDS = 900
_CHECK_SECONDS = 120
_log = logging.getLogger("launcher")


def python_for(manifest: Manifest, install: bool) -> str:
    """The interpreter for a plugin: of its own environment when it has one that fits, else the host's when that has all it needs.

    Raises ``DEPENDENCY_MISSING``, with what pip says, when neither does. Takes long when it installs: run it on a thread.
    """
    wanted = requirements(manifest)
    if not wanted:
        return sys.executable
    folder = manifest.folder / ".venv"
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    stamp = _stamp(wanted)
    if _read(folder / _STAMP) == stamp and Path(python).exists():
        return python
    if not install:
        missing = _missing(sys.executable, wanted)
        if missing is None:
            return sys.executable
        raise PluginError(
            ErrorCodes.DEPENDENCY_MISSING,
            f"{manifest.name} needs what is not installed: {missing}",
            data={"requirements": manifest.dependencies},
            help="start the host with --auto-install-deps",
        )
    _log.info("installing what %s needs into %s", manifest.name, folder)
    _pip(manifest, [sys.executable, "-I", "-m", "venv", "--clear", str(folder)])
    # Wheels only: to build a package is to run its code, which nobody has agreed to.
    _pip(manifest, [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", *wanted])
    _pip(manifest, [python, "-I", "-m", "pip", "check", "--disable-pip-version-check"])
    # Last: an environment without it is made anew.
    (folder / _STAMP).write_text(stamp, "utf-8")
    return python


def _pip(manifest: Manifest, command: List[str]) -> None:
    done = _run(command, _INSTALL_SECONDS)
    if done.returncode != 0:
        said = _last_lines(done.stderr or done.stdout)
        message = f"installing what {manifest.name} needs failed: {said}"
        raise PluginError(ErrorCodes.DEPENDENCY_MISSING, message, help="try: " + " ".join(command))


def _missing(python: str, wanted: List[str]) -> Optional[str]:
    """What pip's own resolver finds missing, versions and all; ``None`` when nothing is, or when there is no pip to ask."""
    command = [python, "-I", "-m", "pip", "install", "--only-binary=:all:", "--dry-run", "--no-index", "--quiet", "--disable-pip-version-check", *wanted]
    # Without the places that the user's settings add: what is there to be downloaded is not installed.
    done = _run(command, _CHECK_SECONDS, PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS="")
    if done.returncode == 0:
        return None
    if "No module named pip" in done.stderr:
        _log.warning("%s has no pip, so that versions of dependencies are not checked", python)
        return None
    return _last_lines(done.stderr)


def _run(command: List[str], seconds: int, **more: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        # Where nothing lies that has the name of a package or a module.
        with tempfile.TemporaryDirectory() as empty:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=seconds,
                env={**env, **more},
                stdin=subprocess.DEVNULL,
                cwd=empty,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"took longer than {seconds} s")


def _stamp(wanted: List[str]) -> str:
    """Changes with what is wanted and with the Python that it is for."""
    return hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    return "; ".join(lines[-2:])
