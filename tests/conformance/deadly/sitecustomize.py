"""Has a worker die whenever it changes objects in a bucket whose name begins with ``deadly``, as by
a fault of the store's driver. A moment later, so that its other shards get something done.
"""

import asyncio
import os
import signal
import sys

if any(word.startswith("longshore.runners.") for word in sys.orig_argv):
    from longshore.stores.local.store import LocalStore

    _patch_objects = LocalStore.patch_objects

    async def _deadly(self, bucket, batch, patch, **options):
        if bucket.startswith("deadly"):
            await asyncio.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return await _patch_objects(self, bucket, batch, patch, **options)

    LocalStore.patch_objects = _deadly
