"""A cluster of real processes: services, workers, Dask's scheduler, PostgreSQL."""
