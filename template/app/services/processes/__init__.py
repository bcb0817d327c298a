"""Processes: which of them are alive, what they clean up, and the pools in which they run what may crash."""
