# one line a program: see docs/HACKING.md
