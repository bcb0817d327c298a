"""Defines the requests and responses of the API as Pydantic models."""
