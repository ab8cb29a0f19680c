"""``python -m wherry.cli``: the ``wherry`` command of this interpreter."""

from __future__ import annotations

import sys

from wherry.cli import main

sys.exit(main())
