"""Holds the business logic, in a folder for each feature and gateway. Each public method is one transaction."""
