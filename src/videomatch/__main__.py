"""``python -m videomatch STAGE …``: how a rule runs a stage (:mod:`videomatch.pipeline.job`)."""

import sys

from videomatch.pipeline import job

if __name__ == "__main__":
    sys.exit(job.start(sys.argv[1:]))
