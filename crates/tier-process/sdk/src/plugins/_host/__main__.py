"""``python -m plugins._host``."""

import sys

from bespoke_sdk.host.cli import main

sys.exit(main())
