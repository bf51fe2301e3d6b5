"""The scripts that make the embedded models import one another by bare names."""

from __future__ import annotations

import sys

from helpers.support import EMBEDDED

sys.path.append(str(EMBEDDED))
