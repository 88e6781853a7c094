"""Errors of the command line."""


class ConfigError(ValueError):
    """A recipe or a command line that is wrong; the message is one clear line."""
