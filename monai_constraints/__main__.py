"""`python -m monai_constraints`, and `torchrun -m monai_constraints`, are the command `monai-constraints`."""

from __future__ import annotations

import sys

from monai_constraints.command import main

if __name__ == "__main__":
    sys.exit(main())
