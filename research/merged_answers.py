"""Pairs of reference answers in a data set that count as equal though they are written differently.

`python -m research.merged_answers math500.jsonl` prints each pair, to be checked by hand, and the time for the keys.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

from branchwise.answers.equivalence import Equivalence
from branchwise.answers.formats import Math


def main() -> None:
    """Print the pairs."""
    parser = argparse.ArgumentParser(prog="python -m research.merged_answers", description=__doc__)
    parser.add_argument("data", type=Path, help="JSON Lines file whose rows have an answer")
    rows = parser.parse_args().data.read_text("utf-8").split("\n")
    references = sorted({str(json.loads(row)["answer"]) for row in rows if row.strip()})
    equivalence, math = Equivalence(seconds=10), Math()
    began = time.monotonic()
    readings = {reference: equivalence.read(reference) for reference in references}
    seconds = time.monotonic() - began
    merged = [
        (first, second)
        for first, second in itertools.combinations(references, 2)
        if math.normal(first) != math.normal(second) and readings[first].key.equals(readings[second].key)
    ]
    for first, second in merged:
        print(f"{first}  =  {second}")
    unread = [reference for reference, reading in readings.items() if not reading.is_complete]
    print(f"{len(merged)} pairs of {len(references)} references are equal; {len(unread)} took too long: {unread}")
    print(f"{seconds:.1f} s")


if __name__ == "__main__":
    main()
