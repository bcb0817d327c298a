"""Holds the tools of this service. Add a file with a function under `@tool` to add one; delete it to remove it."""

from app.services.agents.toolbox import Tool, ToolContext, ToolError, tool

__all__ = ["Tool", "ToolContext", "ToolError", "tool"]
