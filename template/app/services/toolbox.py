"""Exports what tools are made of under a shorter path, as `app.services.tools` does, too."""

from app.services.agents.toolbox import Tool, ToolContext, ToolError, tool

__all__ = ["Tool", "ToolContext", "ToolError", "tool"]
