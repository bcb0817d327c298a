"""What every layer may use: settings, database, security, events, errors."""
