"""Lastunit: the reservation service that sells the last unit exactly once."""

__version__ = "0.1.0"
