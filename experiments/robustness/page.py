"""docs/robustness.md from the campaigns' counts.

python experiments/robustness/page.py COUNTS.json ... [--out docs/robustness.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "robustness.md"

ABOUT = {
    "kills": "Commands are killed at system calls, at half-written files and at random times; the "
    "same command again must give the numbers of an undisturbed one, and no directory may be "
    "refused.",
    "flips": "Single bits are flipped in every file that `resume`, or a comparison that goes on, "
    "reads; each is harmless, since the numbers are the same, or is named with its file.",
    "disks": "Runs on file systems of many sizes that fill up; each must end in one line and "
    "resume to the numbers of an undisturbed run.",
    "edges": "Edge values of the configuration: finite numbers and exit 0, or exit 2 and one line.",
}

HEAD = """# Robustness

What happens when a process is killed, a file is damaged, a disk fills up or a value is extreme,
tried in numbers by the scripts in `experiments/robustness/`. This page is made from their counts:

```bash
{commands}
python experiments/robustness/page.py {files}
```
"""


def together(parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record a campaign, of the parts that it was run in."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        whole = found.setdefault(part["campaign"], {**part, "n": 0, "outcomes": {}, "bad": [],
                                                    "commands": []})  # fmt: skip
        whole["n"] += part["n"]
        whole["bad"] += part["bad"]
        whole["commands"] += part["commands"]
        for outcome, n in part["outcomes"].items():
            whole["outcomes"][outcome] = whole["outcomes"].get(outcome, 0) + n
    return list(found.values())


def section(found: dict[str, Any]) -> str:
    """One campaign."""
    name, bad = found["campaign"], found["bad"]
    rows = "\n".join(f"| {outcome} | {n} |" for outcome, n in found["outcomes"].items())
    verdict = "None ended otherwise." if not bad else f"{len(bad)} ended as they should not:"
    listed = "".join(f"\n- `{line}`" for line in bad)
    return (
        f"\n## {name.capitalize()}: {found['n']}\n\n{ABOUT.get(name, '')}\n\n"
        f"| outcome | n |\n|---|---|\n{rows}\n\n{verdict}{listed}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("counts", type=Path, nargs="+", help="JSON files of the campaigns.")
    parser.add_argument("--out", type=Path, default=PAGE, help="The page.")
    given = parser.parse_args()
    campaigns = together(json.loads(file.read_text(encoding="utf-8")) for file in given.counts)
    commands = "\n".join(line for found in campaigns for line in found["commands"])
    head = HEAD.format(commands=commands, files=" ".join(file.name for file in given.counts))
    given.out.write_text(head + "".join(map(section, campaigns)), encoding="utf-8")


if __name__ == "__main__":
    main()
