"""Alembic's home: ``versions`` has the steps, forward only; ``schema`` takes them."""
