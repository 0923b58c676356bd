"""``python -m ppfr_bench.cli``."""

from ppfr_bench.cli import main

if __name__ == "__main__":
    main()
