"""Handles HTTP and WebSockets: validates and translates what arrives, and leaves all decisions to the services."""
