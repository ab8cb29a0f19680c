"""Tables: rows and columns in an artifact, in W&B's format.

``table`` and ``partitioned`` are what users see; ``entries`` puts them into artifacts and gives them back.
Below those: ``columns`` checks values, with ``kinds`` (types in W&B's notation) and ``values`` (what a Python
value is, and becomes); ``frames`` takes rows from other libraries; ``written``, ``scanned`` and ``parquet``
are the forms that rows have in a file. Nothing here imports numpy, pandas, polars or pyarrow before a user
hands over something of theirs, or asks for it.
"""
