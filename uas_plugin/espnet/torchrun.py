"""torch.distributed.run that ends with the status of its processes.

Run by ``uas torchrun``. torchrun ends with 1 whatever its processes end with; a training that has
saved and wants to be started again ends with 75 (``os.EX_TEMPFAIL``), and the job must see that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run torchrun's command line; the status: 0, 75 (saved, to be started again), or 1."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(argv)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode != os.EX_TEMPFAIL:
            raise
        print("torchrun: the processes have saved and stopped", file=sys.stderr)
        return os.EX_TEMPFAIL
    except SignalException as error:
        # It has passed the signal on and waited: what can be saved is saved.
        print(f"torchrun: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
