"""What Wherry keeps in a store: layout, manifests, version records, aliases.

The only code that knows key names and record formats (``docs/store-format.md``).
"""
