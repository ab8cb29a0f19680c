"""What `make bench` measures: each ``bench_*.py`` has a ``main()`` that prints one table."""
