"""Tests ask no Hub, and run on one thread each.

Without a network the Hub takes half a minute to give up; tests marked ``network`` need it: run them with
``HF_HUB_OFFLINE=0``. The models are too small to share out, and ``pytest -n auto`` has a process on each core.
"""

from __future__ import annotations

import os

# Read when the libraries are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
