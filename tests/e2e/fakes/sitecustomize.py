"""Gives every attempt one more meter, a made GPU's, beside that of its CPU.

Python imports this at its start when the folder is in PYTHONPATH; only supervisors are touched.
"""

import sys

if "green_jobs" in sys.orig_argv:
    from green_jobs.energy import ladder

    _open_meters = ladder.open_meters

    def _with_gpu(document, *arguments):  # noqa: ANN001, ANN002, ANN202
        return _open_meters(document.model_copy(update={"gpus": 1}), *arguments)

    ladder.open_meters = _with_gpu
