"""Cloud Storage's JSON API over the embedded store, beside the API of batch operations.

``longshore emulator`` is one process for tests and for trying things out: what it keeps has the
semantics of Cloud Storage (object_rules), nobody has to say who they are, and what it does not do
is a 501 that says so. docs/emulator.md has the list.
"""
