# SPDX-License-Identifier: MIT
"""coverage.py FILE --lines=LEAST --branches=LEAST: the sum of what gcovr wrote to FILE as JSON.

A line or a branch counts once, however many instances its template has and on however many instruction
sets, and ran if it ran in any. Where a branch is taken by nothing but an exception, neither that nor its
other side counts.
"""

import argparse
import collections
import json
import sys


def lines_of(file):
    """{line: (how often it ran, {branch: how often it was taken})}"""
    counts = collections.Counter()
    branches = collections.defaultdict(collections.Counter)
    exceptions = collections.defaultdict(set)  # {line: pairs of branches, by the block they leave}
    for line in file["lines"]:
        if line.get("gcovr/noncode") or line.get("gcovr/excluded"):
            continue
        number = line["line_number"]
        counts[number] += line["count"]
        for branch in line.get("branches", []):
            block = branch.get("source_block_id")
            branches[number][block, branch["branchno"]] += branch["count"]
            if branch["throw"]:
                exceptions[number].add(block)
    return {
        number: (count, {b: n for b, n in branches[number].items() if b[0] not in exceptions[number]})
        for number, count in sorted(counts.items())
    }


def runs_of(numbers):
    """"3-5, 8" of [3, 4, 5, 8]"""
    runs = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--lines", type=float, required=True)
    parser.add_argument("--branches", type=float, required=True)
    parser.add_argument("--show-branches", action="store_true")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as opened:
        files = json.load(opened)["files"]
    lines, branches = collections.Counter(), collections.Counter()
    for file in files:
        of_file = lines_of(file)
        missed = [number for number, (count, _) in of_file.items() if count == 0]
        lines["all"] += len(of_file)
        lines["run"] += len(of_file) - len(missed)
        half = []
        for number, (_, taken) in of_file.items():
            branches["all"] += len(taken)
            branches["run"] += sum(count > 0 for count in taken.values())
            if number not in missed and 0 in taken.values():
                half.append(number)
        if missed or (half and options.show_branches):
            share = 100 * (1 - len(missed) / len(of_file))
            print(f"  {share:5.1f} % {file['file']}: {runs_of(missed)}")
            if options.show_branches:
                print(f"          branches of {runs_of(half)}")
    of_lines = 100 * lines["run"] / lines["all"]
    of_branches = 100 * branches["run"] / branches["all"]
    print(f"lines: {of_lines:.2f} % of {lines['all']}, branches: {of_branches:.2f} % of {branches['all']}")
    if of_lines < options.lines or of_branches < options.branches:
        sys.exit(f"expected {options.lines} % of lines and {options.branches} % of branches")


main()
