"""The planner: the whole fleet in, one plan per job out; pure."""
