"""The process of a worker: of modules with names, where Dask looks for what it runs."""

from longshore.runners.dask import work
from longshore.supervisor import be_a_worker

be_a_worker(work)
