"""The life of a job: what was seen in, the state with its reasons and the desired run out; pure."""
