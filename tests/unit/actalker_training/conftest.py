from __future__ import annotations

import sys
from pathlib import Path

# The tiny system is shared by these tests and by those on Ray.
sys.path.insert(0, str(Path(__file__).parent))
