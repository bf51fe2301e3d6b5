"""The scripts that make the embedded models import one another by bare names."""

from __future__ import annotations

import sys

from helpers.support import EMBEDDED

# Before site-packages, where `make dist` installs a `build` of its own.
sys.path.insert(0, str(EMBEDDED))
