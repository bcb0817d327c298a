"""The application. Calls go down only: api, services, repositories, models, core."""

__version__ = "0.1.0"
