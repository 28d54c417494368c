"""All that this project knows of Flower's insides: a new Flower breaks this room alone.

Flower starts a process per task, and its server forgets everything at its end. So the server and
the sites' trainers are long-lived processes of ours that speak Flower's Runtime API themselves:
the server runs its own loop over Flower's strategies, a trainer keeps torch and data loaded.

Each module is one process's share, for what the others import takes seconds of CPU time.
"""
