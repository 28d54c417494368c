"""One machine in the place of a cluster: a folder for the claim, a subprocess for the pod.

The planner, the decisions, the accounting and the contract with the job are the operator's own;
this room replaces the API server (``state``), the Job controller (``run_end``), the kubelet
(``process``) and the clock (``clock``).
"""
