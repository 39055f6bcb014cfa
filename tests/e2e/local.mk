# End to end: the demo (./demo).
EXTRA_DIST += demo tests/e2e/demo.py tests/e2e/demo_guests.py tests/e2e/demo_disk.py
