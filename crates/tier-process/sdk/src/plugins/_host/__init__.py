"""The plugin host of the guide: ``python -m plugins._host``. ``plugins`` itself is a namespace, shared with the user's folder."""
