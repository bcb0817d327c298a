"""Agents: executions, each step of which is stored before the next effect, and the tools that they call."""
