"""SQL, and nothing else. Repositories never commit: the service that calls them does."""
