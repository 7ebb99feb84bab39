"""The REST API, one router a noun."""
