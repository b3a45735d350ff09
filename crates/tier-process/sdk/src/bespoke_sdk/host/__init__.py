"""The App Factory host in Python: JSON-RPC on stdin and stdout, one guest process per plugin. For authors without Bespoke."""
