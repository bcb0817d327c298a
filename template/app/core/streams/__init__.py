"""Keeps texts that grow and that others follow, in the memory of a process or in Redis."""
