"""``python -m videomatch STAGE …``: how a rule runs a stage, where it helps in a fork of the workflow's server."""

import os
import sys

from videomatch.pipeline import fork_server, reached


def main(argv: list[str]) -> int:
    """Run one job; its exit status. Processes that torchrun started together run it themselves."""
    if "WORLD_SIZE" not in os.environ and fork_server.address() is not None:
        status = fork_server.delegate(argv)
        if status is None and argv and reached.code_needs("torch", argv[0]):
            fork_server.start()
            status = fork_server.delegate(argv)
        if status is not None:
            return status
    from videomatch.pipeline import run_job  # here: not needed by a process that waits for another

    return run_job.main(argv)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the workflow says so
        sys.exit(130)
