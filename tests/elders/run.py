"""Run the tests of tini or dumb-init on td-init, and print one line for each: PASSED or FAILED, and its name.

Usage: run.py tini SOURCE PART PARTS, or run.py dumb-init SOURCE SECONDS EXPRESSION. BUILD_DIR or PATH leads to the
program of that name; SOURCE is the source package. Of tini's tests one of PARTS is run; of those of dumb-init, what
pytest -k selects by EXPRESSION, each for SECONDS at most.
"""

import ast
import functools
import os
import re
import signal
import subprocess
import sys


def report(name, error):
    print("FAILED" if error else "PASSED", name, flush=True)
    if error:
        print(f"{name}: {error!r}"[:300], file=sys.stderr)


class Items:
    """tini's tests are one function, which ends at the first failure. Each part of it that begins with a line "Running
    ..." becomes an item of its own; nothing else in it is changed."""

    def split(self, block):
        """Each item of a block, in a `try`."""
        out, part = [], None
        for statement in block:
            if self.is_start(statement):
                part = [statement]
                out.append(part)
            elif part and not self.contains_start(statement):
                part.append(statement)
            else:
                part = None
                self.inside(statement)
                out.append(statement)
        return [self.attempt(part) if isinstance(part, list) else part for part in out]

    def inside(self, statement):
        for field in ("body", "orelse"):
            block = getattr(statement, field, None)
            if isinstance(block, list) and any(self.contains_start(inner) for inner in block):
                setattr(statement, field, self.split(block))

    def attempt(self, part):
        (text,) = part[0].value.args
        text = ast.unparse(text)
        loop = ast.parse(
            f"while item.begins({text}):\n"
            " try:\n  pass\n"
            " except Exception as error:\n  item.ends(error)\n"
            " else:\n  item.ends(None)"
        ).body[0]
        loop.body[0].body = part
        return loop

    def is_start(self, statement):
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
            return False
        call = statement.value
        text = ast.unparse(call)
        return getattr(call.func, "id", "") == "print" and re.match(r"print\(['\"][Rr]unning ", text) is not None

    def contains_start(self, statement):
        return any(self.is_start(inner) for inner in ast.walk(statement))


class Item:
    """The item that runs. One may have to begin again: tini's test of process groups sends a signal as soon as a child
    is there, and that loses it if it has not yet become the one that gets it. tini itself fails then."""

    def __init__(self, places, part, parts):
        self.places, self.part, self.parts = places, part, parts
        self.number, self.name, self.tries = -1, None, 0

    def begins(self, text):
        for place in self.places:
            text = text.replace(place + "/", "")
        text = text.replace("test/", "")
        if self.name == text:
            return self.tries > 0
        self.number += 1
        self.name = text
        self.tries = 4 if "process group" in text else 1
        return self.number % self.parts == self.part

    def ends(self, error):
        self.tries -= 1
        if str(error) != "Condition was never met":
            self.tries = 0
        if self.tries == 0:
            report(self.name, error)


def tini(source, part, parts):
    path = os.path.join(source, "test", "run_inner_tests.py")
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == "main":
            function.body = Items().split(function.body)
    # tini leads a session, as process 1 of a container does.
    subprocess.Popen = functools.partial(subprocess.Popen, start_new_session=True)
    item = Item([os.environ["BUILD_DIR"], source], int(part), int(parts))
    names = {"__name__": "__main__", "__file__": path, "item": item}
    exec(compile(ast.fix_missing_locations(tree), path, "exec"), names)


def dumb_init(source, seconds, expression):
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=short"]
    words += ["--timeout", seconds, "-k", expression, "tests"]
    done = subprocess.run(words, cwd=source, stdout=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stdout)
    for line in done.stdout.splitlines():
        found = re.match(r"(PASSED|FAILED|ERROR) tests/(.+?)( - .*)?$", line)
        if found:
            report(found[2], None if found[1] == "PASSED" else "it failed")
    # 1: tests have failed.
    if done.returncode not in (0, 1):
        sys.exit(125)


if __name__ == "__main__":
    # What stops at SIGTSTP must be in a process group that a process of this session, here this one, can continue.
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        {"tini": tini, "dumb-init": dumb_init}[sys.argv[1]](*sys.argv[2:])
        sys.exit(0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(pid, signal.SIGKILL))
    signal.alarm(400)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) and 125)
