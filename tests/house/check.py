"""The rules of the house that no compiler checks. Standard library only.

    python3 tests/house/check.py

Each rule reads the checkout and yields what breaks it. The closing line counts the rules.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Crate -> the crates of this workspace that it may use: the edges that docs/architecture.md draws.
EDGES: dict[str, set[str]] = {
    "flumen-ring": set(),
    "flumen-engine": {"flumen-ring"},
    "flumen-wire": set(),
    "flumen-server": {"flumen-engine", "flumen-ring", "flumen-wire"},
    "flumen-bench": set(),
}
# Edges that exist for benches and tests only.
DEVELOPMENT_EDGES: dict[str, set[str]] = {"flumen-bench": {"flumen-ring", "flumen-engine", "flumen-wire"}}

# The only crate with unsafe code and system calls.
UNSAFE_CRATE = "flumen-ring"
LINES_MAX = 800

Rule = Callable[[], Iterator[str]]


def packages() -> list[dict]:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    return json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]


def rust_files() -> Iterator[Path]:
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "*.rs"], cwd=ROOT, text=True)
    for line in listed.splitlines():
        path = ROOT / line
        if path.is_file():
            yield path


def crate_edges() -> Iterator[str]:
    """A crate uses only the crates of this workspace that the design allows it."""
    for package in packages():
        name = package["name"]
        if name not in EDGES:
            yield f"{name}: a crate that the design does not list"
            continue
        for dependency in package["dependencies"]:
            if not dependency["name"].startswith("flumen-"):
                continue
            allowed = set(EDGES[name])
            if dependency["kind"] == "dev":
                allowed |= DEVELOPMENT_EDGES.get(name, set())
            if dependency["name"] not in allowed:
                yield f"{name} -> {dependency['name']} ({dependency['kind'] or 'normal'}): not an edge of the design"


def unsafe_is_forbidden() -> Iterator[str]:
    """Every crate but the ring forbids unsafe code in each of its roots."""
    for package in packages():
        if package["name"] == UNSAFE_CRATE:
            continue
        for target in package["targets"]:
            if not set(target["kind"]) & {"lib", "bin"}:
                continue
            source = Path(target["src_path"])
            if "#![forbid(unsafe_code)]" not in source.read_text():
                yield f"{source.relative_to(ROOT)}: lacks #![forbid(unsafe_code)]"


def dependencies_have_reasons() -> Iterator[str]:
    """Every dependency line of a crate says beside itself why it is there."""
    for package in packages():
        manifest = Path(package["manifest_path"])
        section = before = ""
        for number, line in enumerate(manifest.read_text().splitlines(), 1):
            if line.startswith("["):
                section = line
                # A dependency with a table of its own has its reason above.
                if "dependencies." in line and not before.startswith("#"):
                    yield f"{manifest.relative_to(ROOT)}:{number}: a dependency without a reason"
            before = line
            if "dependencies]" in section and re.match(r"[a-z]", line) and "#" not in line:
                yield f"{manifest.relative_to(ROOT)}:{number}: a dependency without a reason"


def no_forbidden_words() -> Iterator[str]:
    """No ignored test, no placeholder, no sleep as synchronisation."""
    words = {
        r"#\[ignore": "an ignored test",
        r"\btodo!\(|\bunimplemented!\(": "a placeholder",
        r"thread::sleep\(": "a sleep of a thread: wait for a condition with a deadline",
    }
    for path in rust_files():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("//", 1)[0]
            for pattern, meaning in words.items():
                if re.search(pattern, code):
                    yield f"{path.relative_to(ROOT)}:{number}: {meaning}"


def files_are_not_too_long() -> Iterator[str]:
    """A file of the product has at most 800 lines before its tests."""
    for path in rust_files():
        if path.name == "tests.rs" or "tests" in path.parts:
            continue
        product = path.read_text().split("#[cfg(test)]", 1)[0]
        if (lines := product.count("\n")) > LINES_MAX:
            yield f"{path.relative_to(ROOT)}: {lines} lines; part it by noun"


RULES: list[Rule] = [
    crate_edges,
    unsafe_is_forbidden,
    dependencies_have_reasons,
    no_forbidden_words,
    files_are_not_too_long,
]


def main() -> int:
    failed = 0
    for rule in RULES:
        breaches = list(rule())
        failed += bool(breaches)
        print(f"{'FAIL' if breaches else 'ok'}   {rule.__doc__}")
        for breach in breaches:
            print(f"       {breach}")
    print(f"{len(RULES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
