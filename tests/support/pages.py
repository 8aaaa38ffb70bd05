"""Pages of docs/ as programs: their files are written, their commands run, from top to bottom, in one empty folder.

A block ```sh holds commands, each of which must succeed; a block ```text right after it shows what they print. Any
other block is a file, whose name stands in its first or second line as a comment: `# train.py`. `...` among what is
shown stands for lines that are left out.

`python -m tests.support.pages docs/tutorials/*.md` runs pages and writes what came out into their ```text blocks.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^(?:#|//) ([\w./-]+\.\w+)$")
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")
TITLE = re.compile(r"^## (.*)$", re.MULTILINE)
ELISION = "..."
SBATCH = """#!/bin/bash
for script; do :; done  # the last argument
range=$(sed -n 's/^#SBATCH --array=//p' "$script")
cores=$(sed -n 's/^#SBATCH --cpus-per-task=//p' "$script")
for task in $(seq "${range%-*}" "${range#*-}"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=$cores bash "$script" || exit
done
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: language, text, where the text begins and ends in the page, the title that it is under."""

    language: str
    text: str
    span: tuple[int, int]
    part: str

    @property
    def file(self) -> str | None:
        """The file that the block is; None for commands and what they print."""
        if self.language in ("sh", "text"):
            return None
        names = [match[1] for line in self.text.splitlines()[:2] if (match := NAMED.match(line))]
        assert names, f"no name (`# train.py`) in the first two lines of\n{self.text}"
        return names[0]


@dataclass(frozen=True)
class Step:
    """A block of commands that was run, and what the page shows of its output."""

    commands: Block
    out: str
    shown: Block | None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    fenced = []
    for match in FENCED.finditer(text):
        titles = TITLE.findall(text[: match.start()])
        fenced.append(Block(match[1], match[2], match.span(2), titles[-1] if titles else ""))
    return fenced


def shell(folder: Path) -> dict[str, str]:
    """The environment of a user's shell: `python` is this interpreter, `modelopt` the command of this checkout.

    `sbatch` runs the tasks of a job array here, one after another, each with what SLURM tells it.
    """
    bin_ = folder.parent / "bin"
    bin_.mkdir(exist_ok=True)
    run = f'#!/bin/sh\nexec "{sys.executable}"'
    for name, text in {
        "python": f'{run} "$@"\n',
        "modelopt": f'{run} -c "from modelopt_cli.cli.main import main; main()" "$@"\n',
        "sbatch": SBATCH,
    }.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELOPT_", "SLURM_"))}
    return {
        **kept,
        "PATH": f"{bin_}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


def run_page(page: Path, folder: Path, smaller: Mapping[str, str] | None = None, part: str | None = None) -> list[Step]:
    """Do what the page says in `folder`.

    `smaller`: texts of its files and commands that are replaced. `part`: only the commands under this title are run
    (all files are written).
    """

    def small(text: str) -> str:
        for old, new in (smaller or {}).items():
            text = text.replace(old, new)
        return text

    for old in smaller or {}:
        assert old in page.read_text(encoding="utf-8"), f"{page.name} has no {old!r} to be made smaller"
    folder.mkdir(parents=True, exist_ok=True)
    environment = shell(folder)
    steps: list[Step] = []
    content = blocks(page)
    for index, block in enumerate(content):
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(small(block.text), encoding="utf-8")
        if block.language != "sh" or part not in (None, block.part):
            continue
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", small(block.text)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:\n{block.text}\n{done.stdout}"
        assert "Traceback" not in done.stdout, done.stdout
        after = content[index + 1] if index + 1 < len(content) else None
        out = done.stdout.replace(f"{folder}/", "")
        steps.append(Step(block, out, after if after is not None and after.language == "text" else None))
    return steps


def masked(line: str) -> str:
    """A line without what differs between two runs or two widths: numbers, units of time, spaces and rules."""
    line = re.sub(r"[─━│╭╮╰╯┃]", " ", line)
    line = NUMBER.sub("#", line)
    line = re.sub(r"# (?:ms|s|min|h)\b", "# s", line)
    return " ".join(line.split())


def not_printed(shown: str, out: str) -> list[str]:
    """Lines that a page shows and that did not come out, in this order, numbers aside."""
    printed = [masked(line) for line in out.splitlines()]
    missing, start = [], 0
    for line in shown.splitlines():
        if line.strip() == ELISION or not masked(line):
            continue
        if masked(line) in printed[start:]:
            start += printed[start:].index(masked(line)) + 1
        else:
            missing.append(line)
    return missing


def run_tutorial(
    name: str, folder: Path, smaller: Mapping[str, str] | None = None, part: str | None = None
) -> list[Step]:
    """Run a tutorial (or a part of it), and hold what it shows against what came out."""
    page = TUTORIALS / f"{name}.md"
    steps = run_page(page, folder, smaller, part)
    assert steps
    for step in steps:
        if step.shown is not None:
            missing = not_printed(step.shown.text, step.out)
            assert not missing, (
                f"{page.name} shows what is not printed (renew it: python -m tests.support.pages "
                f"{page.relative_to(ROOT)}): {missing}\nafter {step.commands.text}\ncame\n{step.out}"
            )
    return steps


def renewed(shown: str, out: str) -> str:
    """What a page is to show of `out`: all, or the lines that are most like those it showed between its `...`."""
    printed = [line.rstrip() for line in out.splitlines()]
    if ELISION not in shown.splitlines():
        return "\n".join(printed).strip("\n") + "\n"
    lines, start = [], 0
    for line in shown.splitlines():
        if line.strip() == ELISION:
            lines.append(ELISION)
            continue
        likeness = [difflib.SequenceMatcher(None, masked(line), masked(other)).ratio() for other in printed[start:]]
        best = max(range(len(likeness)), key=likeness.__getitem__, default=None)
        if best is None or likeness[best] < 0.6:
            print(f"not printed any more: {line}", file=sys.stderr)
            continue
        lines.append(printed[start + best])
        start += best + 1
    return "\n".join(lines) + "\n"


def renew(page: Path) -> None:
    """Run a page, and write what came out into it."""
    with tempfile.TemporaryDirectory() as scratch:
        steps = run_page(page, Path(scratch, "work"))
    text = page.read_text(encoding="utf-8")
    for step in reversed(steps):
        if step.shown is not None:
            begin, end = step.shown.span
            text = text[:begin] + renewed(step.shown.text, step.out) + text[end:]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, file=sys.stderr)
        renew(Path(path))
