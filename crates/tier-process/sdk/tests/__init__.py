"""Tests of the SDK: ``python -m unittest discover -s tests -t .`` in the folder above. No dependencies."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
