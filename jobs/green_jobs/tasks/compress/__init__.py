"""Compression: a pipeline of prune, distill, finetune and quantize steps on one original model.

``python -m green_jobs.tasks.compress`` is the worker of one attempt. It goes on from the newest
checkpoint and ends, interrupted or not, with the same weights to the bit on the same kind of CPU.
"""
