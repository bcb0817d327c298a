"""Provides speech: reads text aloud and transcribes, with engines on this machine or providers on the network."""
