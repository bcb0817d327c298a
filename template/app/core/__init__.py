"""Holds what every layer may use: settings, database, security, streams, errors."""
