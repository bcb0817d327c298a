"""Runs agents: each step of an execution is stored before its next effect, such as a tool call."""
