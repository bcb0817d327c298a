"""Contains the application. A layer calls only those below it: api, services, repositories, models, core."""

__version__ = "0.1.0"
