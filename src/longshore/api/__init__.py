"""The public API: Storage Batch Operations v1, REST transcoded from the descriptors' rules.

Servicers are written against protobuf messages and know nothing of HTTP; the API reaches the engine
only through the database.
"""
