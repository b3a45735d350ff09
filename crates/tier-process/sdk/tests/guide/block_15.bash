python -m plugins._host --auto-install-deps
