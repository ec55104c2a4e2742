"""``python -m p2v``: the same as the command ``p2v``."""

import sys

from p2v.cli.main import main

sys.exit(main())
