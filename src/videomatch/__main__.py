"""``python -m videomatch STAGE …``: how a rule runs a stage, where it helps in a fork of the workflow's server."""

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job that only begins, or waits, just ends: the workflow says why

from videomatch.pipeline import fork_server, reached  # noqa: E402


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

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_job.main(argv)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the workflow says so
        sys.exit(130)
