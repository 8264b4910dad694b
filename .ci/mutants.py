# SPDX-License-Identifier: MIT
"""mutants.py [--jobs=N] [--list | --some=N | NAME...]: do tests find the faults of tests/mutants/?

A mutant is one text of one header, put in the place of another. A program of tests/ is compiled with it
and must fail; without it, it must pass. A crash, and a program that does not end, are failures too, and
are said to be; what does not compile is none.
  So that a mutant takes seconds, nothing is optimised, and only the kernels of the portable registers are
compiled, which are the same text as the others: with the program, if they include the header, else once
for all programs.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mutants"
LIMIT = 180  # seconds that a program may run, on a machine that does something else too
# Standard headers, and those of Eigen and GoogleTest, which no mutant changes.
COMMON = "#include <gtest/gtest.h>\n#include <unsupported/Eigen/CXX11/Tensor>\n"
# What the headers declare in chosen.hpp, for programs that are told that the kernels are elsewhere.
KERNELS = """#include <eigenheads/kernels/nn/targets.hpp>
#include <eigenheads/kernels/targets.hpp>
#define EIGENHEADS_INSTANTIATE(T)                                       \\
  template ProjectionKernels<T> projection_kernels<T>();                \\
  template RotaryKernels<T> rotary_kernels<T>();                        \\
  template AttentionKernels<T> attention_kernels<T>();                  \\
  template AttentionPartKernels<T> attention_part_kernels<T>();         \\
  template const StoredKernels<T>* stored_kernels<T>(StoredAs);         \\
  template BackwardKernels<T> backward_kernels<T>();                    \\
  template StatisticsKernels<T> statistics_kernels<T>();                \\
  template ElementaryKernels<T> elementary_kernels<T>();                \\
  template NnKernels<T> nn_kernels<T>();                                \\
  template RowKernels<T> row_kernels<T>();                              \\
  template AdditiveKernels<T> additive_kernels<T>();
namespace eigenheads::inline EIGENHEADS_ABI::detail {
EIGENHEADS_INSTANTIATE(float)
EIGENHEADS_INSTANTIATE(double)
}
"""


@dataclasses.dataclass
class Mutant:
    name: str
    header: str = ""  # below include/eigenheads/
    program: str = ""  # tests/<program>_test.cpp
    tests: str = "*"  # GoogleTest's filter
    breaks: str = ""  # a promise of .github/CONTRACT.md, or what else
    old: str = ""
    new: str = ""

    def mutated(self):
        """The header's text with the fault in it."""
        path = ROOT / "include" / "eigenheads" / self.header
        if not path.is_file():
            raise ValueError(f"there is no header {self.header}")
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"its text is {text.count(self.old)} times in {self.header}; expected 1")
        if not (ROOT / "tests" / f"{self.program}_test.cpp").is_file():
            raise ValueError(f"there is no tests/{self.program}_test.cpp")
        return text.replace(self.old, self.new)


def read_table():
    """All mutants, in the order of the files and of their lines."""
    mutants = []
    for path in sorted((ROOT / "tests" / "mutants").glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            key, _, value = line.partition(" ")
            if not line or key == "#":
                continue
            if key == "mutant":
                mutants.append(Mutant(value))
            elif key == "in":
                mutants[-1].header = value
            elif key == "killed" and value.startswith("by "):
                mutants[-1].program, _, tests = value[3:].partition(" ")
                mutants[-1].tests = tests or "*"
            elif key == "breaks":
                mutants[-1].breaks = value
            elif key == "-":
                mutants[-1].old += ("\n" if mutants[-1].old else "") + value
            elif key == "+":
                mutants[-1].new += ("\n" if mutants[-1].new else "") + value
            else:
                sys.exit(f"{path}:{number}: expected a line of a mutant, found {line!r}")
    names = [mutant.name for mutant in mutants]
    for mutant in mutants:
        if names.count(mutant.name) > 1:
            sys.exit(f"mutant {mutant.name} is there twice")
        if not all((mutant.header, mutant.program, mutant.breaks, mutant.old)):
            sys.exit(f"mutant {mutant.name} does not say all: in, killed by, breaks, -, +")
    return mutants


def compiler(level="-O0"):
    flags = ["-std=c++20", level, "-w", "-pthread", f'-DEIGENHEADS_SOURCE_DIR="{ROOT}"']
    return shlex.split(os.environ.get("CXX", "g++")) + flags


def includes(overlay=None):
    """What is changed comes first."""
    folders = ([overlay] if overlay else []) + [BUILD / "portable"]
    folders += [ROOT / "include", ROOT / "tests", ROOT / "examples"]
    system = ["/usr/include/eigen3", "/usr/local/include/eigen3"]
    return [f"-I{folder}" for folder in folders] + [f"-isystem{folder}" for folder in system]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def is_fresh(target, program=None):
    """Whether it was made of the headers, and the program, as they are."""
    if not target.exists():
        return False
    sources = [pathlib.Path(__file__), *(ROOT / "include").rglob("*.[hi][pn][pl]")]
    if program is not None:
        sources += [ROOT / "tests" / f"{program}_test.cpp", *(ROOT / "tests").rglob("*.hpp")]
        sources += (ROOT / "examples").rglob("*.hpp")
    return target.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def prepare(pool):
    """What all programs begin with, and the kernels; the headers that these include."""
    if is_fresh(BUILD / "kernels.o") and is_fresh(BUILD / "common.hpp.gch"):
        return (BUILD / "kernels.d").read_text(encoding="utf-8")
    isa = (ROOT / "include" / "eigenheads" / "isa.hpp").read_text(encoding="utf-8")
    isa, count = re.subn(r"^#define EIGENHEADS_(X86|NEON) 1$", "", isa, flags=re.MULTILINE)
    if count == 0:
        sys.exit("isa.hpp names its instruction sets otherwise")
    write(BUILD / "portable" / "eigenheads" / "isa.hpp", isa)
    write(BUILD / "common.hpp", COMMON)
    write(BUILD / "kernels.cpp", KERNELS)
    header = ["-x", "c++-header", str(BUILD / "common.hpp"), "-o", str(BUILD / "common.hpp.gch")]
    kernels = ["-MD", "-c", str(BUILD / "kernels.cpp"), "-o", str(BUILD / "kernels.o")]
    each = [compiler() + includes() + header, compiler("-O1") + includes() + kernels]
    list(pool.map(lambda command: subprocess.run(command, check=True), each))
    return (BUILD / "kernels.d").read_text(encoding="utf-8")


def compile_program(program, target, overlay, with_kernels):
    """None, or what the compiler said."""
    if overlay is None and is_fresh(target, program):
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    command = compiler() + ["-include", str(BUILD / "common.hpp")] + includes(overlay)
    command += [str(ROOT / "tests" / f"{program}_test.cpp"), "-o", str(target)]
    if not with_kernels:
        command += ["-DEIGENHEADS_KERNELS_ARE_ELSEWHERE", str(BUILD / "kernels.o")]
    command += ["-lgtest", "-lgtest_main", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr[-3000:]


def run_program(target, tests):
    """How it ends: "passes", "passes without a test", "fails", "crashes", "does not end"."""
    command = [str(target), f"--gtest_filter={tests}", "--gtest_fail_fast"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                              cwd=target.parent, errors="replace")
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.returncode < 0:
        return "crashes"
    if done.returncode > 0:
        return "fails"
    return "passes without a test" if "] 0 tests" in done.stdout else "passes"


def whole_target(program, with_kernels):
    return BUILD / "whole" / ("with_kernels" if with_kernels else "without") / program


@functools.lru_cache(None)
def run_whole(program, with_kernels, tests):
    return run_program(whole_target(program, with_kernels), tests)


def verdict(mutant, with_kernels, whole):
    """(whether it was killed, a word for it); `whole` is what the compiler said of the program as it is."""
    program = f"tests/{mutant.program}_test.cpp"
    if whole.result() is not None:
        return False, f"without it, {program} does not compile:\n{whole.result()}"
    ends = run_whole(mutant.program, with_kernels, mutant.tests)
    if ends != "passes":
        return False, f"without it, {program} {ends}"
    folder = BUILD / "broken" / mutant.name
    write(folder / "eigenheads" / mutant.header, mutant.mutated())
    said = compile_program(mutant.program, folder / "program", folder, with_kernels)
    if said is not None:
        return False, f"it does not compile:\n{said}"
    ends = run_program(folder / "program", mutant.tests)
    shutil.rmtree(folder)
    return not ends.startswith("passes"), f"{program} {ends}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--some", type=int, default=0)
    parser.add_argument("--list", action="store_true")  # promise by promise
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    table = read_table()
    if options.list:
        for promise in sorted({mutant.breaks for mutant in table}):
            print(promise)
            for mutant in table:
                if mutant.breaks == promise:
                    print(f"  {mutant.name}: {mutant.program} {mutant.tests}")
        return
    failed = 0
    for mutant in table:  # of all, whichever are run
        try:
            mutant.mutated()
        except ValueError as error:
            failed += 1
            print(f"{mutant.name}: has gone stale: {error}")
    chosen = table
    if options.names:
        chosen = [mutant for mutant in table if mutant.name in options.names]
        if len(chosen) != len(options.names):
            sys.exit(f"expected names of tests/mutants/: {' '.join(options.names)}")
    elif options.some:
        day = int(time.time()) // 86400
        count = min(options.some, len(table))
        chosen = [table[(day * count + i) % len(table)] for i in range(count)]
        print("today's:", *(mutant.name for mutant in chosen))
    if failed > 0:
        sys.exit(f"{failed} of {len(table)} mutants have gone stale")

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        of_kernels = prepare(pool)
        programs = {}
        verdicts = []
        for mutant in chosen:
            with_kernels = f"/eigenheads/{mutant.header} " in of_kernels.replace("\n", " ")
            key = (mutant.program, with_kernels)
            if key not in programs:
                target = whole_target(*key)
                programs[key] = pool.submit(compile_program, mutant.program, target, None, with_kernels)
            verdicts.append(pool.submit(verdict, mutant, with_kernels, programs[key]))
        for mutant, each in zip(chosen, verdicts):
            is_killed, how = each.result()
            failed += not is_killed
            print(f"{mutant.name}: {'killed' if is_killed else 'NOT KILLED'}, {how}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} mutants killed")
    sys.exit(failed > 0)


main()
