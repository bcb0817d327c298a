"""Holds the SQL of the application, and nothing else. Repositories never commit: the service that calls them does."""
