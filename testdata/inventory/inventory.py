"""Lists the files that came with this program, and ends with the status that it is asked for.

    python3 inventory.py [--exit-status NUMBER]

What it prints depends on those files alone, so that it says the same wherever it was copied to faithfully.
"""

import argparse
import os
import sys

# A list that grew while it was made would be a different one at the second run.
sys.dont_write_bytecode = True

import listing


def main():
    parser = argparse.ArgumentParser(description="Lists the files that came with this program.")
    parser.add_argument("--exit-status", type=int, default=0, metavar="NUMBER")
    arguments = parser.parse_args()
    for line in listing.lines(os.path.dirname(os.path.abspath(__file__))):
        print(line)
    print("listed to the end", file=sys.stderr)
    return arguments.exit_status


if __name__ == "__main__":
    sys.exit(main())
