"""Runs the guide's pytest file, as it stands, and that of docs/python.md. Needs a package index for pytest and pytest-asyncio.

    python tests/with_pytest.py [FOLDER]

FOLDER keeps the environment for the next time. The exit code is pytest's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent
#: pytest 8 is the last to run on Python 3.9.
PINNED = ["pytest==8.4.2", "pytest-asyncio==1.2.0"] if sys.version_info < (3, 10) else ["pytest==9.0.1", "pytest-asyncio==1.3.0"]


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory(prefix="sdk-") as work:
        environment = Path(sys.argv[1] if len(sys.argv) > 1 else f"{work}/environment").resolve()
        python = str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        if not Path(python).exists():
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *PINNED, copy(Path(work))], check=True)
        project = Path(work) / "project"
        write(project)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
        return subprocess.run([python, "-m", "pytest", "-v", "-p", "no:cacheprovider"], cwd=project, env=env, check=False).returncode


def copy(work: Path) -> str:
    """The SDK, where building it leaves nothing behind in the repository."""
    target = work / "sdk"
    shutil.copytree(SDK, target, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.egg-info", "build"))
    return str(target)


def write(project: Path) -> None:
    """The guide's quick start plugin under the name that its test file imports, and that file, each without a changed line. Of the page
    for authors, the same.
    """
    guide = SDK / "tests" / "guide"
    plugin = project / "plugins" / "my_plugin"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_bytes((guide / "block_02.python").read_bytes())
    tests = project / "tests"
    tests.mkdir()
    (tests / "test_my_plugin.py").write_bytes((guide / "block_17.python").read_bytes())
    page = (SDK.parent.parent.parent / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    for word, path in (("class Beeper", project / "plugins" / "beeper.py"), ("import Beeper", tests / "test_beeper.py")):
        (found,) = (body for body in blocks if word in body)
        path.write_text(found, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
