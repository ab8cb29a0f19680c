"""A folder as a store: one file an object, made visible whole or not at all.

``store``      the verbs, each in one worker thread
``files``      what a verb does to files: read, land, replace, remove, sync
``roots``      the folder itself, opened, so that what is seen in it lies in one store
``temporary``  files that are not objects yet, and the sweep of what a kill left of them
``landing``    the system calls by which a file gets its name and survives a power loss
``copying``    a user's bytes on their way in: reflinked or copied, and hashed
``walking``    listing in the order of whole keys
``problems``   what an ``OSError`` means for a store

Beside the objects the folder holds ``%wherry/`` with temporary and lock files. No key can be called so:
in a percent-encoded key a ``%`` is followed by two hexadecimal digits.
"""

from wherryd.stores.folder.store import FolderStore

__all__ = ["FolderStore"]
