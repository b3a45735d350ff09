python -m plugins._host --log-level DEBUG
