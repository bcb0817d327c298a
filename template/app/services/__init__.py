"""The rules, a folder for each feature and gateway. Each public method is one transaction."""
