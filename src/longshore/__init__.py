"""Bulk changes to objects in any bucket, as a service."""

__version__ = "0.1.0"
