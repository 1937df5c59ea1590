"""Tests ask no Hub, which would take half a minute to give up where there is none.

Those marked ``network`` need it: run them with ``HF_HUB_OFFLINE=0``.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the libraries are imported
