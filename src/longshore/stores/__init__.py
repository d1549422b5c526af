"""Implementations of store.Store, one module per kind of service."""
