"""``python -m reseen``, which ``torchrun -m reseen`` starts in every process."""

import sys

from reseen.cli import main

sys.exit(main())
