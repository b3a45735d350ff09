"""Tests of the SDK: ``python -m unittest discover -s tests -t .`` in the folder above. No dependencies."""
