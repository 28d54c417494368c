"""The builtin tasks; each is a program that a supervisor runs as its worker."""
