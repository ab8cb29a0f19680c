"""A Google Cloud Storage bucket as a store, by its JSON API.

``store``      the verbs
``bodies``     a new object in one request, with the CRC32C that the server checks
``resumable``  big files, in a session
``landed``     what the server says of an object that it has just made
``sender``     one request: with which credentials; sent again only if refused
``answers``    what a status and a reason mean
``resources``  objects, listings and errors as the server writes them
``listing``    pages of keys
``identity``   from a set of credentials to tokens, through gcloud-aio-auth
``place``      URLs of the bucket

Requests go out by ``stores.http``. References to ``gs://`` (``wherryd.references``) share ``identity``,
``place`` and ``resources``.
"""
