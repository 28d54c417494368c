"""The code inside pods; it runs without the operator and knows nothing of it but the contract.

An attempt is two processes. The supervisor (``python -m green_jobs run`` or ``exec -- COMMAND``)
meters, journals, answers over HTTP, copies the log and tells the outcome; it never imports torch.
The worker does the task and reports through one small state file, so a worker that hangs, crashes
or is killed loses no figure.
"""
