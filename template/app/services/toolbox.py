"""A short path to what tools are made of; `app.services.tools` is the same."""

from app.services.agents.toolbox import Tool, ToolContext, ToolError, tool

__all__ = ["Tool", "ToolContext", "ToolError", "tool"]
